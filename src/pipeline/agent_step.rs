//! The agent's run: from the prepared places to a verdict in the record.

use super::parking::{Kind, Trouble};
use super::prepare::Ready;
use super::{Execution, Halt, plan};
use crate::agent::account;
use crate::agent::command::{self, Directories, Invocation};
use crate::agent::home::Login;
use crate::agent::outcome::{self, Evidence};
use crate::agent::run::{self, Heard, Limits, RunEnd};
use crate::agent::self_test;
use crate::agent::stream::Output;
use crate::event::{self, Draft};
use crate::job::{Mark, Time, Verdict};
use crate::process::supervised;
use crate::spans;
use crate::workspace::worktree::Worktree;
use std::path::{Path, PathBuf};

impl Execution<'_> {
    pub fn run_agent(&mut self, ready: Ready) -> Result<(), Halt> {
        let runner = self.runner;
        let settings = &runner.config.claude;
        let cannot = |what: &str, error: std::io::Error| Halt::Failed(format!("cannot {what}: {error}"));
        let (home, temporary) = (ready.home.home(), ready.home.temporary());
        let safe_directories = self.safe_directories(&ready.directory);
        let invocation = Invocation {
            profile: &ready.profile,
            directories: Directories {
                config_dir: &ready.written.config_dir,
                mcp_file: &ready.written.mcp_file,
                home: &home,
                temporary: &temporary,
            },
            resume: self.goes_on.as_deref().or(self.record.resume_session.as_deref()),
            system_prompt_file: ready.system_prompt_file.as_deref(),
            github_token: ready.github_token.as_deref(),
            github_server: &runner.config.github.server_url,
            safe_directories: &safe_directories,
            author: (&runner.config.repos.author_name, &runner.config.repos.author_email),
            is_root: runner.is_root,
            trace: settings.otel.as_ref().and_then(|_| spans::parent_of_agent(&self.record)),
        };
        let (program, arguments) = match ready.profile.is_self_test {
            true => ("/proc/self/exe", vec![self_test::ROLE.to_owned()]),
            false => (settings.binary.as_str(), command::arguments(&invocation)),
        };
        let environment = command::environment(&invocation, settings, &runner.config.variables);
        let prompt = match self.goes_on {
            Some(_) => plan::prompt_to_go_on(&self.record),
            None => plan::prompt(&self.record),
        };
        let prompt = ready.home.write_prompt(&command::prompt(&prompt));
        let prompt = prompt.map_err(|error| cannot("write the prompt", error))?;
        let login = Login::lend(settings.login_dir.as_deref(), &ready.written.config_dir)
            .map_err(|error| cannot("hand over Claude's login", error))?;
        let spec = supervised::Spec {
            program,
            arguments: &arguments,
            environment: &environment,
            directory: &ready.directory,
            input: &prompt,
            lock: &runner.agents_lock,
            until: self.stop.until(),
        };
        let limits = Limits {
            timeout: ready.profile.timeout,
            stall: settings.stall_timeout,
            result_grace: settings.result_grace,
            kill_grace: settings.kill_grace,
            disk: runner.config.repos.job_disk_limit,
        };
        let places = [ready.directory.clone(), home.clone(), temporary.clone()];
        let stop = self.stop;
        let mut lost = false;
        let began = Time::now();
        let ended = run::run(&spec, limits, &places, stop, &mut |heard| {
            let told = self.report(heard, ready.cost_before);
            lost |= told.is_err();
            told.is_ok()
        });
        drop(login);
        let why = match &ended {
            Ok(RunEnd::ByItself(evidence)) => outcome::judge(evidence).0.error,
            Ok(RunEnd::Stopped(_)) => Some("stopped".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        let why = why.map(|why| self.redactor.clean(why));
        spans::part(&self.record, spans::AGENT, began, Time::now(), why);
        let evidence = match ended.map_err(|error| cannot("start the agent's supervisor", error))? {
            RunEnd::Stopped(_) if lost => return Err(stop.reason().map_or(Halt::Lost, Halt::Stopped)),
            RunEnd::Stopped(reason) => return Err(Halt::Stopped(reason)),
            RunEnd::ByItself(mut evidence) => {
                evidence.cost_before = ready.cost_before;
                evidence
            }
        };
        if let Some(trouble) = trouble_of(&evidence) {
            return Err(Halt::Trouble(trouble));
        }
        runner.parking.works(Kind::Account);
        let (verdict, spent) = outcome::judge(&evidence);
        let clean = |text: Option<String>| text.map(|text| self.redactor.clean(text));
        let verdict = Verdict { output: clean(verdict.output), error: clean(verdict.error), ..verdict };
        let told = match &verdict.error {
            None => "succeeded".to_owned(),
            Some(why) => format!("failed: {why}"),
        };
        self.mark(Mark::AgentEnded { verdict, spent }, Some(Draft::new(event::Kind::AgentEnded, told)))
    }

    /// The worktree, its repository, and its submodules': on a volume that shows everything as somebody else's, git
    /// would refuse them.
    fn safe_directories(&self, directory: &Path) -> Vec<String> {
        let Ok(Some(url)) = self.url() else { return Vec::new() };
        let mut all = vec![directory.to_owned()];
        self.add_repositories(&Worktree::of(&self.runner.spaces, &url, self.record.worktree_name(), None), &mut all);
        // Git compares real paths.
        all.into_iter().map(|path| path.canonicalize().unwrap_or(path).display().to_string()).collect()
    }

    fn add_repositories(&self, worktree: &Worktree, all: &mut Vec<PathBuf>) {
        all.push(worktree.repository());
        all.extend(self.runner.spaces.git_dir_of(worktree.url));
        for submodule in worktree.submodules() {
            if let Some(url) = submodule.url() {
                let inner = worktree.submodule(&submodule, &url);
                all.push(inner.path());
                self.add_repositories(&inner, all);
            }
        }
    }

    fn report(&mut self, heard: Heard, cost_before: f64) -> Result<(), Halt> {
        let output = match heard {
            Heard::Started(pid) => {
                self.runner.parking.works(Kind::Machine);
                self.runner.set_kept_aside(&self.record.id);
                let started = Draft::new(event::Kind::AgentStarted, format!("process {pid}"));
                return self.mark(Mark::AgentStarted { pid }, Some(started));
            }
            Heard::Output(output) => output,
        };
        match output {
            Output::Session(session) if self.record.session_id.as_ref() != Some(session) => {
                self.mark(Mark::Session(session.clone()), None)
            }
            Output::Session(_) => Ok(()),
            Output::Result(report) => {
                let output = report.text.as_ref().map(|text| self.redactor.clean(text.as_str()));
                self.mark(Mark::Reported { output, spent: outcome::spent(report, cost_before) }, None)
            }
            Output::Text(text) => self.say(event::Kind::AgentText, text.as_str()),
            Output::Tool { name, input } => {
                // The API answered.
                self.runner.parking.works(Kind::Account);
                let text = self.redactor.clean(input.as_str());
                self.say_draft(Draft { kind: event::Kind::AgentTool, text, tool: Some(name.clone()) })
            }
            Output::ToolResult { text, is_error } => {
                let mark = if *is_error { "error: " } else { "" };
                self.say(event::Kind::AgentToolResult, format!("{mark}{text}"))
            }
            Output::Notice(text) | Output::Garbage(text) => self.say(event::Kind::AgentNotice, text.as_str()),
            Output::ApiError(_) | Output::LimitUntil(_) => Ok(()),
        }
    }
}

/// What kept the agent from its work that is not the job's fault.
fn trouble_of(evidence: &Evidence) -> Option<Trouble> {
    if let Some(refused) = &evidence.refused {
        // What the task alone makes too long is the job's.
        let is_of_job = refused.contains("(os error 7)");
        return (!is_of_job).then(|| Trouble::of_machine(outcome::not_started(refused)));
    }
    let account::Refusal { why, until } = account::refusal(evidence)?;
    Some(Trouble { kind: Kind::Account, why, until })
}
