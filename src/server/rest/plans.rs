//! The routes of plans.

use super::status::json;
use super::{Answered, Asked, Rest};
use crate::api::{ExecuteRequest, LIST_DEFAULT, ListRequest, PlanAnswer, PlanRequest, PlansAnswer, Shape};
use crate::job::Time;
use crate::service::{Refusal, Seen};

impl Rest {
    pub(super) fn plan(&self, asked: &Asked) -> Answered {
        let request = PlanRequest::parse(asked.body).map_err(|why| Refusal::invalid("body", why))?;
        let waits = request.wait;
        let job = self.with_key(asked, |key| self.service.plan(request, key, asked.by))?;
        self.accepted(job, waits, Shape::Plan)
    }

    pub(super) fn list_plans(&self, asked: &Asked) -> Answered {
        let limit = asked.parse(|pairs| ListRequest::parse(pairs, Time::now()))?.limit.unwrap_or(LIST_DEFAULT);
        let Seen { it, stale } = self.service.list_plans(limit)?;
        json(200, &PlansAnswer::new(it, stale))
    }

    pub(super) fn show_plan(&self, asked: &Asked) -> Answered {
        let Seen { it, stale } = self.service.find_plan(asked.id)?;
        json(200, &PlanAnswer::new(it, stale))
    }

    pub(super) fn execute_plan(&self, asked: &Asked) -> Answered {
        let request = ExecuteRequest::parse(asked.body).map_err(|why| Refusal::invalid("body", why))?;
        let waits = request.wait;
        self.accepted(self.service.execute(asked.id, request, asked.by)?, waits, Shape::Job)
    }
}
