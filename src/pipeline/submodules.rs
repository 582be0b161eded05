//! Checks out the submodules that a job's profile wants: those that the server may reach. Of the others an event says
//! why they are empty.

use super::Execution;
use super::retry::Failure;
use crate::event::Kind;
use crate::job::Time;
use crate::process::stop::Stop;
use crate::workspace::fetch::FetchRequest;
use crate::workspace::submodules::{Named, Submodule, Wanted, on_one_host, resolve};
use crate::workspace::url::{RepoUrl, Transport};
use crate::workspace::worktree::Worktree;

/// More are not checked out, nor any that lie deeper.
const MOST: usize = 200;
const DEEPEST: usize = 8;

impl Execution<'_> {
    /// Those that `commit` names, in its worktree.
    pub fn make_submodules(&self, worktree: &Worktree, commit: &str, wanted: Wanted) -> Result<(), Failure> {
        match wanted {
            Wanted::None => Ok(()),
            Wanted::Own => self.make_below(worktree, commit, 1, &mut 0),
            Wanted::Recursive => self.make_below(worktree, commit, DEEPEST, &mut 0),
        }
    }

    fn make_below(&self, above: &Worktree, commit: &str, levels: usize, count: &mut usize) -> Result<(), Failure> {
        if levels == 0 {
            return Ok(());
        }
        for named in above.named_submodules(commit)? {
            *count += 1;
            let made = match *count > MOST {
                true => Err(Failure::Final(format!("there are more than {MOST}"))),
                false => self.make_submodule(above, &named, levels, count),
            };
            match made {
                Ok(()) => {}
                Err(Failure::Final(why)) => {
                    let path = above.path().join(&named.path);
                    self.say(Kind::Cloning, format!("the submodule {} stays empty: {why}", path.display()))?;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    fn make_submodule(&self, above: &Worktree, named: &Named, levels: usize, count: &mut usize) -> Result<(), Failure> {
        let runner = self.runner;
        let url = self.reachable(above.url, &named.url).map_err(Failure::Final)?;
        let login = runner.github.login(&url)?;
        // Whenever it was fetched: a commit is a commit.
        let request = FetchRequest { base_ref: Some(&named.commit), not_before: Time(0), login };
        let progress = |text: &str| {
            let _ = self.say(Kind::Cloning, text);
        };
        let stop: &Stop = self.stop;
        let mut locked = runner.spaces.lock_telling(&url, stop, &progress)?;
        let base = locked.base_at(&named.commit, &request, &progress)?;
        let lfs = locked.fetch_lfs(&base.commit, &request, &progress)?;
        let submodule = Submodule {
            name: named.name.clone(),
            path: named.path.clone(),
            url: url.to_string(),
            commit: base.commit.clone(),
        };
        above.note_submodule(&submodule)?;
        let inner = above.submodule(&submodule, &url);
        if let Err(error) = inner.make_within(above, &named.name, locked, &base, &lfs, stop) {
            above.unmake_submodule(&submodule, &url)?;
            return Err(error.into());
        }
        self.make_below(&inner, &base.commit, levels - 1, count)
    }

    /// The URL that a submodule is fetched from, if the server may ask there with its login.
    fn reachable(&self, above: &RepoUrl, named: &str) -> Result<RepoUrl, String> {
        let runner = self.runner;
        let judge = |text: &str| runner.judge_url(text).map_err(|why| why.replace("repo_url", "its URL"));
        let mut url = judge(&resolve(above, named)?)?;
        let slug = runner.github.slug(&url);
        // Written with ssh, for the developers; the server has a token.
        if let Some((owner, name)) = slug.as_ref().filter(|_| url.transport == Transport::Ssh)
            && above.transport != Transport::Ssh
        {
            url = judge(&format!("{}/{owner}/{name}.git", runner.config.github.server_url))?;
        }
        runner.judge_addresses(&url).map_err(|why| why.replace("repo_url", "its URL"))?;
        match slug.is_some() || on_one_host(above, &url) {
            true => Ok(url),
            false => Err(format!("{url} is on another host than {above}, and the server has no login for it")),
        }
    }
}
