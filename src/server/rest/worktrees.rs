//! The routes of prepared worktrees.

use super::status::json;
use super::{Answered, Asked, Rest};
use crate::api::{CleanupRequest, Shape, WorktreeAnswer, WorktreeRequest, WorktreesAnswer};
use crate::service::Refusal;

impl Rest {
    /// Answers once it is there.
    pub(super) fn prepare_worktree(&self, asked: &Asked) -> Answered {
        let request = WorktreeRequest::parse(asked.body).map_err(|why| Refusal::invalid("body", why))?;
        let job = self.with_key(asked, |key| self.service.prepare_worktree(request, key, asked.by))?;
        self.accepted(job, true, Shape::Worktree)
    }

    pub(super) fn list_worktrees(&self, _: &Asked) -> Answered {
        json(200, &WorktreesAnswer::new(self.service.list_worktrees()?))
    }

    pub(super) fn show_worktree(&self, asked: &Asked) -> Answered {
        json(200, &WorktreeAnswer::new(self.service.find_worktree(asked.id)?))
    }

    pub(super) fn remove_worktree(&self, asked: &Asked) -> Answered {
        let wanted = asked.parameters().find(|(name, _)| name == "discard").map(|(_, value)| value.into_owned());
        let discards = match wanted.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                return Err(Refusal::invalid("discard", format!("`discard` must be true or false, not `{other}`")));
            }
        };
        json(200, &WorktreeAnswer::new(self.service.remove_worktree(asked.id, discards, asked.by)?))
    }

    pub(super) fn clean_up_worktrees(&self, asked: &Asked) -> Answered {
        let request = asked.parse(CleanupRequest::of_parameters)?;
        json(200, &self.service.clean_up_worktrees(&request)?)
    }
}
