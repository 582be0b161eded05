//! What this server has to have to run jobs, one after the other: there or not, what does not work without it, and
//! what to do. One list, which claims, `/ready`, `status` and `doctor` go by. Looks, and changes nothing.

use super::Runner;
use super::machine::{Machine, well, wrong};
use super::parking::Kind;
use crate::api::{Check, Stops};
use crate::config::Config;
use crate::job::Time;
use crate::profile::Profiles;

/// The oldest git that does all that is asked of it (2.34: `ls-files --debug`, bundles, `merge-base` as used here).
const OLDEST_GIT: (u32, u32) = (2, 34);

/// What can be told from the settings and this machine, without a server: what keeps jobs from being run first.
pub fn of_machine(config: &Config, machine: &Machine) -> Vec<Check> {
    let mut all = vec![claude(config, machine), login(config), git(config, machine)];
    all.extend(machine.disks());
    all
}

/// What jobs are run without, but not as somebody may expect.
pub fn of_settings(config: &Config, has_lfs: bool, profiles: &Profiles) -> Vec<Check> {
    vec![git_lfs(has_lfs), github_token(config), of_profiles(profiles), api_keys(config)]
}

impl Runner {
    /// All that can be looked at from here.
    pub fn checks(&self) -> Vec<Check> {
        let mut all = self.necessary();
        all.push(self.check_account());
        all.extend(of_settings(&self.config, self.spaces.git.has_lfs(), &self.profiles));
        all
    }

    /// What jobs cannot be run without.
    fn necessary(&self) -> Vec<Check> {
        let mut all = of_machine(&self.config, &self.machine);
        all.extend(self.check_store());
        all
    }

    /// The first that keeps from working what `stops` names. That the server is parked is asked of its parking.
    pub fn hindrance(&self, stops: Stops) -> Option<Check> {
        self.necessary().into_iter().find(|check| !check.ok && check.stops >= stops)
    }

    /// A line for all that is not well.
    pub fn unwell(&self) -> Vec<String> {
        let told = |check: &Check| Some(format!("{}; {}", check.shown(), check.what_to_do.as_ref()?));
        self.checks().iter().filter(|check| !check.ok).filter_map(told).collect()
    }

    /// What is wrong with git, for a job that has a repository.
    pub fn why_no_git(&self) -> Option<String> {
        let check = git(&self.config, &self.machine);
        Some(format!("{}; {}", check.why, check.what_to_do.filter(|_| !check.ok)?))
    }

    /// What of this machine keeps jobs from being begun.
    pub fn why_machine_unwell(&self) -> Option<String> {
        let stops = |check: &Check| check.stops >= Stops::Jobs;
        let check = of_machine(&self.config, &self.machine).into_iter().find(stops)?;
        Some(format!("{}; {}", check.why, check.what_to_do.unwrap_or_default()))
    }

    /// What does not work here. That the server is parked is asked of its parking.
    pub fn stopped(&self) -> Stops {
        self.necessary().into_iter().map(|check| check.stops).max().unwrap_or_default()
    }

    fn check_account(&self) -> Check {
        match self.parking.trouble() {
            Some((trouble, left)) => {
                let (name, stops) = match trouble.kind {
                    Kind::Account => ("account", Stops::Agents),
                    Kind::Machine => ("machine", Stops::Jobs),
                };
                let until = Time::now().plus_seconds(left.as_secs());
                let why = format!("{}; no job is begun until {until}", trouble.why);
                wrong(name, why, "nothing: one job will try then").stopping(stops)
            }
            None => well("account", "no trouble with the model's API is known"),
        }
    }

    fn check_store(&self) -> Vec<Check> {
        let store = &self.store;
        if self.config.redis.is_none() && !self.config.wants_redis {
            return vec![well("store", "jobs are kept in files, by this server alone")];
        }
        // With a second copy jobs are taken in, read and cancelled without Redis too.
        let can_do_without = self.config.has_second_copy() && store.was_reached();
        let redis = match store.waits_for() {
            Some(why) => wrong("redis", why, "see that Redis is reached from here, and what its log says")
                .stopping(if can_do_without { Stops::Jobs } else { Stops::Requests }),
            None => well("redis", "it answers"),
        };
        let clock = match store.trouble() {
            Some(why) => wrong("clock", why, "set this machine's clock").stopping(Stops::Requests),
            None => well("clock", "it is Redis'"),
        };
        vec![redis, clock]
    }
}

fn claude(config: &Config, machine: &Machine) -> Check {
    let binary = &config.claude.binary;
    if config.program(binary).is_none() {
        let what = "install Claude Code (`npm install -g @anthropic-ai/claude-code`), or set AGENTICORE_CLAUDE_BINARY";
        return wrong("claude", format!("`{binary}` is not here"), what).stopping(Stops::Agents);
    }
    match machine.version(binary) {
        Some(Ok(version)) => well("claude", format!("{binary}, {version}")),
        // A wrapper may not know the question.
        Some(Err(why)) => well("claude", format!("{binary}, of a version that it does not tell ({why})")),
        None => well("claude", format!("{binary}, which was not asked for its version yet")),
    }
}

fn login(config: &Config) -> Check {
    match config.login() {
        Ok(login) => well("login", login),
        Err(what) => {
            let what = format!("{what}, {}", config.then_restart());
            wrong("login", "there is none for Claude", what).stopping(Stops::Agents)
        }
    }
}

/// Without it nothing but a self-test without a repository can be run.
fn git(config: &Config, machine: &Machine) -> Check {
    let told = match machine.version("git") {
        _ if config.program("git").is_none() => {
            return wrong("git", "git is not installed, or not on PATH", "install git").stopping(Stops::Agents);
        }
        Some(Ok(told)) => told,
        Some(Err(why)) => return well("git", format!("of a version that it does not tell ({why})")),
        None => return well("git", "which was not asked for its version yet"),
    };
    match version_number(&told) < OLDEST_GIT {
        true => wrong("git", format!("{told} is too old"), "install git 2.34 or later").stopping(Stops::Agents),
        false => well("git", told),
    }
}

fn version_number(told: &str) -> (u32, u32) {
    let number = told.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut parts = number.unwrap_or_default().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn git_lfs(has_lfs: bool) -> Check {
    match has_lfs {
        true => well("git_lfs", "git-lfs is installed"),
        false => well("git_lfs", "git-lfs is not installed: Git LFS files stay pointers"),
    }
}

fn github_token(config: &Config) -> Check {
    let github = &config.github;
    let server = &github.server_url;
    match () {
        () if github.app.is_some() => well("github_token", format!("a GitHub App for {server}")),
        () if github.token.is_some() => well("github_token", format!("GITHUB_TOKEN for {server}")),
        () => well("github_token", format!("none: no private repository of {server}, and no pull requests there")),
    }
}

fn of_profiles(profiles: &Profiles) -> Check {
    let (usable, broken) = profiles.all();
    match broken.first() {
        Some(error) => wrong("profiles", error.to_string(), "mend its profile.yml; jobs with other profiles run"),
        None => match profiles.warnings().first() {
            Some(typo) => wrong("profiles", typo.as_str(), "mend its profile.yml: the key is ignored"),
            None => well("profiles", format!("{} can be used", usable.len())),
        },
    }
}

fn api_keys(config: &Config) -> Check {
    match !config.wants_keys() && !config.is_local() {
        true => wrong(
            "api_keys",
            "none are set: anybody who reaches the port can run agents here",
            format!("{}, {}", config.where_to_set("api-keys", "AGENTICORE_API_KEYS"), config.then_restart()),
        ),
        false if config.wants_keys() => well("api_keys", "requests need a key"),
        false => well("api_keys", "none are wanted: this machine alone can reach the port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_git_says_it() {
        assert_eq!(version_number("git version 2.47.3"), (2, 47));
        assert_eq!(version_number("git version 2.39.5 (Apple Git-154)"), (2, 39));
        assert_eq!(version_number("git"), (0, 0));
    }
}
