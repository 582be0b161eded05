//! The command line, parsed. Does nothing else.

mod raw;

use super::commands::{self, COMMANDS, Flag, Row};
use super::completions::Shell;
use super::follow::Logs;
use super::init::Init;
use super::key::New;
use super::plans::{Execute, Plan};
use crate::api;
use crate::job::{Overrides, Status};
use crate::suggest;
use lexopt::prelude::*;
use raw::{Raw, of_flag, text};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

/// A command, and where the server is if that was said.
#[derive(Debug, PartialEq)]
pub struct Parsed {
    pub command: Command,
    pub server: Option<String>,
}

#[derive(Debug, PartialEq)]
pub enum Command {
    /// About this command, or about everything.
    Help(Option<&'static str>),
    Version,
    Serve {
        host: Option<String>,
        port: Option<u16>,
    },
    Run(Box<Run>),
    Jobs(Box<List>),
    Job {
        id: String,
        json: bool,
    },
    Logs(Logs),
    Mcp,
    Retry {
        ids: Vec<String>,
        wait: bool,
        idempotency_key: Option<String>,
        json: bool,
    },
    KeyNew(New),
    Completions(Shell),
    Man,
    Watch(Box<List>),
    Open {
        id: String,
    },
    Diff {
        id: String,
        json: bool,
    },
    Init(Init),
    Webhooks {
        retry: bool,
        json: bool,
    },
    Resume {
        id: String,
        task: String,
        wait: bool,
        idempotency_key: Option<String>,
        json: bool,
    },
    Cancel {
        ids: Vec<String>,
        json: bool,
    },
    Plan(Plan),
    Plans {
        limit: usize,
        json: bool,
    },
    ExecutePlan(Execute),
    Profiles {
        json: bool,
    },
    Doctor {
        fix: bool,
        cluster: bool,
        /// The id of a job whose worktree is to be removed.
        discard: Option<String>,
        json: bool,
    },
    Drain {
        limit: Duration,
        cancel: bool,
        json: bool,
    },
    Status {
        alive: bool,
        wait: Option<Duration>,
        json: bool,
    },
    HooksSync {
        target: String,
        url: Option<String>,
        json: bool,
    },
    InitSharedFs {
        root: Option<String>,
        json: bool,
    },
    Config {
        json: bool,
    },
}

impl Command {
    /// It keeps or looks at files of this machine's; the others ask a server.
    pub fn needs_home(&self) -> bool {
        match self {
            Command::Run(run) => run.local,
            Command::Serve { .. }
            | Command::Doctor { .. }
            | Command::HooksSync { .. }
            | Command::InitSharedFs { .. }
            | Command::Init(_)
            | Command::Config { .. } => true,
            _ => false,
        }
    }
}

/// `jobs`: how many, and which.
#[derive(Debug, PartialEq)]
pub struct List {
    pub limit: usize,
    pub status: Option<Status>,
    /// Parameters of the request, as they were given.
    pub asked: Vec<(String, String)>,
    pub watch: bool,
    pub json: bool,
}

#[derive(Debug, Default, PartialEq)]
pub struct Run {
    pub task: String,
    pub repo: Option<String>,
    pub profile: Option<String>,
    pub base_ref: Option<String>,
    pub session_id: Option<String>,
    pub file_path: Option<String>,
    pub create_repo: bool,
    pub private: Option<bool>,
    pub wait: bool,
    pub local: bool,
    pub idempotency_key: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// In place of the task.
    pub task_file: Option<String>,
    pub overrides: Overrides,
    pub webhook_url: Option<String>,
    pub json: bool,
}

pub fn parse(arguments: Vec<OsString>) -> Result<Parsed, String> {
    let mut server = None;
    let command = parse_command(arguments, &mut server)?;
    Ok(Parsed { command, server })
}

fn parse_command(arguments: Vec<OsString>, server: &mut Option<String>) -> Result<Command, String> {
    // An image whose entry point is this binary is also called by the name of the command.
    let is_named = arguments.first().is_some_and(|word| word == "agenticore");
    let mut parser = lexopt::Parser::from_args(arguments.into_iter().skip(usize::from(is_named)));
    let mut row: Option<&'static Row> = None;
    let mut raw = Raw::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help(row.map(|row| row.name))),
            Short('V') | Long("version") => return Ok(Command::Version),
            Value(word) if row.is_none() => {
                let word = text(word)?;
                if word == "help" {
                    let about = parser.value().ok().map(text).transpose()?;
                    return Ok(Command::Help(about.map(|word| known(&word)).transpose()?.map(|row| row.name)));
                }
                row = Some(known(&word)?);
            }
            Value(word) => raw.words.push(text(word)?),
            other => {
                let flag = flag_of(row.unwrap_or(&COMMANDS[0]), &other)?;
                let value = match flag.value {
                    Some(_) => text(parser.value().map_err(|_| format!("--{} needs a value", flag.name))?)?,
                    None => String::new(),
                };
                let may_be_repeated = flag.value.is_none() || flag.name == "label";
                if !may_be_repeated && raw.has(flag.name) {
                    return Err(format!("--{} is given twice: it takes one value", flag.name));
                }
                raw.flags.push((flag.name, value));
            }
        }
    }
    *server = raw.server()?;
    command(row.unwrap_or(&COMMANDS[0]).name, raw)
}

/// What commands are called elsewhere.
const OTHER_NAMES: [(&str, &str); 12] = [
    ("list", "jobs"),
    ("ls", "jobs"),
    ("ps", "jobs"),
    ("show", "job"),
    ("get", "job"),
    ("submit", "run"),
    ("start", "serve"),
    ("server", "serve"),
    ("log", "logs"),
    ("events", "logs"),
    ("stop", "cancel"),
    ("kill", "cancel"),
];

fn known(word: &str) -> Result<&'static Row, String> {
    commands::find(word).ok_or_else(|| {
        let names = || COMMANDS.iter().map(|row| row.name);
        let other = OTHER_NAMES.iter().find(|(name, _)| *name == word).map(|(_, command)| *command);
        let other = other.map(|command| format!("; did you mean `{command}`?"));
        let meant = other.unwrap_or_else(|| suggest::did_you_mean(word, names()));
        format!("unknown command `{word}`: known are {}{meant}", names().collect::<Vec<_>>().join(", "))
    })
}

fn flag_of(row: &'static Row, argument: &lexopt::Arg) -> Result<&'static Flag, String> {
    let found = row.flags.iter().find(|flag| match argument {
        Short(letter) => flag.short == Some(*letter),
        Long(name) => flag.name == *name,
        Value(_) => false,
    });
    found.ok_or_else(|| {
        let (shown, meant) = match argument {
            Short(letter) => (format!("-{letter}"), None),
            Long(name) => (format!("--{name}"), suggest::nearest(name, row.flags.iter().map(|flag| flag.name))),
            Value(word) => (word.display().to_string(), None),
        };
        let meant = meant.map(|name| format!("; did you mean `--{name}`?")).unwrap_or_default();
        let known: Vec<String> =
            row.flags.iter().map(|flag| format!("--{}", flag.name)).chain(["--help".into()]).collect();
        format!("`agenticore {}` has no flag {shown}: it has {}{meant}", row.name, known.join(", "))
    })
}

fn command(name: &'static str, raw: Raw) -> Result<Command, String> {
    let json = raw.has("json");
    for (one, other) in [("private", "public"), ("detach", "wait"), ("detach", "local"), ("local", "server")] {
        if raw.has(one) && raw.has(other) {
            return Err(format!("--{one} and --{other} exclude each other"));
        }
    }
    Ok(match name {
        "run" => Command::Run(Box::new(Run {
            task: raw.task()?,
            task_file: raw.value("task-file")?,
            overrides: raw.overrides()?,
            webhook_url: raw.webhook_url()?,
            repo: raw.value("repo")?,
            profile: raw.value("profile")?,
            base_ref: raw.value("base-ref")?,
            session_id: raw.value("session-id")?,
            file_path: raw.value("file-path")?,
            create_repo: raw.has("create-repo"),
            private: if raw.has("public") { Some(false) } else { raw.has("private").then_some(true) },
            wait: raw.has("wait"),
            local: raw.has("local"),
            idempotency_key: raw.idempotency_key()?,
            labels: raw.own_labels()?,
            json,
        })),
        "open" => Command::Open { id: raw.only_word("open", "ID")? },
        "diff" => Command::Diff { id: raw.only_word("diff", "ID")?, json },
        "job" => Command::Job { id: raw.only_word("job", "ID")?, json },
        "logs" => Command::Logs(Logs {
            id: raw.only_word("logs", "ID")?,
            follow: raw.has("follow"),
            since: raw.value("since")?.map(|text| api::cursor(&text).map(|_| text)).transpose()?.unwrap_or_default(),
            json,
        }),
        "retry" => {
            let ids = raw.some_words("retry", "ID")?;
            let (wait, idempotency_key) = (raw.has("wait"), raw.idempotency_key()?);
            if ids.len() > 1 && (wait || idempotency_key.is_some()) {
                return Err("with --wait or --idempotency-key, retry takes one ID".into());
            }
            Command::Retry { ids, wait, idempotency_key, json }
        }
        "completions" => {
            let name = raw.only_word("completions", "SHELL")?;
            let known = Shell::NAMES.join(", ");
            let shell = Shell::parse(&name).ok_or_else(|| format!("SHELL must be one of {known}, not `{name}`"))?;
            Command::Completions(shell)
        }
        "resume" => match &raw.words[..] {
            [id, task] => Command::Resume {
                id: id.clone(),
                task: task.clone(),
                wait: raw.has("wait"),
                idempotency_key: raw.idempotency_key()?,
                json,
            },
            _ => return Err("`agenticore resume` needs ID and TASK: put the task in quotes".into()),
        },
        "plan" => Command::Plan(Plan {
            task: raw.only_word("plan", "TASK")?,
            repo: raw.value("repo")?,
            base_ref: raw.value("base-ref")?,
            file_path: raw.value("file-path")?,
            wait: raw.has("wait"),
            idempotency_key: raw.idempotency_key()?,
            json,
        }),
        "execute-plan" => Command::ExecutePlan(Execute {
            id: raw.only_word("execute-plan", "ID")?,
            repo: raw.value("repo")?,
            profile: raw.value("profile")?,
            file_path: raw.value("file-path")?,
            wait: raw.has("wait"),
            json,
        }),
        "hooks" => match raw.only_word("hooks", "sync")?.as_str() {
            "sync" => Command::HooksSync {
                target: raw.value("target")?.unwrap_or_else(|| "all".into()),
                url: raw.value("url")?,
                json,
            },
            other => {
                let meant = suggest::did_you_mean(other, ["sync"].into_iter());
                return Err(format!("`agenticore hooks` knows `sync` alone, not `{other}`{meant}"));
            }
        },
        "key" => match &raw.words[..] {
            [verb, name] if verb == "new" => Command::KeyNew(New {
                name: name.clone(),
                scope: raw.value("scope")?.unwrap_or_else(|| "submit".into()),
                expires: raw.value("expires")?,
                max_queued: raw.value("max-queued")?,
                json,
            }),
            _ => return Err("`agenticore key` needs `new NAME`: see `agenticore key --help`".into()),
        },
        "cancel" => Command::Cancel { ids: raw.some_words("cancel", "ID")?, json },
        _ => {
            raw.no_words(name)?;
            match name {
                "plans" => Command::Plans { limit: raw.limit()?, json },
                "jobs" => Command::Jobs(Box::new(raw.list(json)?)),
                "drain" => Command::Drain {
                    limit: raw
                        .value("timeout")?
                        .map_or(Ok(api::DRAIN_DEFAULT), |text| api::drain_timeout(&text))
                        .map_err(of_flag)?,
                    cancel: raw.has("cancel"),
                    json,
                },
                "mcp" => Command::Mcp,
                "doctor" => Command::Doctor {
                    fix: raw.has("fix"),
                    cluster: raw.has("cluster"),
                    discard: raw.value("discard")?,
                    json,
                },
                "profiles" => Command::Profiles { json },
                "status" => Command::Status {
                    alive: raw.has("alive"),
                    wait: raw
                        .value("wait")?
                        .map(|text| api::drain_timeout(&text).map_err(|why| why.replace("`timeout`", "--wait")))
                        .transpose()?,
                    json,
                },
                "init-shared-fs" => Command::InitSharedFs { root: raw.value("shared-root")?, json },
                "init" => Command::Init(Init {
                    profile: raw.value("profile")?,
                    model: raw.value("model")?,
                    jobs: raw.value("jobs")?,
                    port: raw.port()?,
                    no_pull_requests: raw.has("no-pull-requests"),
                    yes: raw.has("yes"),
                }),
                "config" => Command::Config { json },
                "man" => Command::Man,
                "webhooks" => Command::Webhooks { retry: raw.has("retry"), json },
                "watch" => Command::Watch(Box::new(raw.list(false)?)),
                "version" => Command::Version,
                _ => Command::Serve { host: raw.value("host")?, port: raw.port()? },
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &[&str]) -> Result<Command, String> {
        parse(line.iter().map(OsString::from).collect()).map(|parsed| parsed.command)
    }

    #[test]
    fn commands_are_understood() {
        assert_eq!(of(&[]), Ok(Command::Serve { host: None, port: None }));
        assert_eq!(of(&["--port", "9"]), Ok(Command::Serve { host: None, port: Some(9) }));
        assert_eq!(
            of(&["jobs", "-n", "5", "--status=queued", "--json"]),
            Ok(Command::Jobs(Box::new(List {
                limit: 5,
                status: Some(Status::Queued),
                asked: vec![],
                watch: false,
                json: true
            })))
        );
        let Ok(Command::Run(run)) = of(&["run", "-r", "u", "-w", "--", "-x"]) else { panic!() };
        assert_eq!((run.task.as_str(), run.repo.as_deref(), run.wait), ("-x", Some("u"), true));
        assert_eq!(of(&["run", "--help"]), Ok(Command::Help(Some("run"))));
        assert_eq!(of(&["help", "jobs"]), Ok(Command::Help(Some("jobs"))));
        assert_eq!(of(&["version"]), of(&["--version"]));
        assert_eq!(of(&["agenticore", "version"]), Ok(Command::Version));
        assert_eq!(of(&["agenticore"]), of(&["serve"]));
    }

    #[test]
    fn the_server_may_be_elsewhere() {
        let parsed = parse(["jobs", "--server", "https://a.example/"].iter().map(OsString::from).collect()).unwrap();
        assert_eq!(parsed.server.as_deref(), Some("https://a.example"));
        assert!(of(&["jobs", "--server", "a.example"]).unwrap_err().contains("must begin with http"));
        let Ok(Command::Logs(logs)) = of(&["logs", "abcd", "-f", "--since", "00001-000002"]) else { panic!() };
        assert!(logs.follow && logs.since == "00001-000002");
    }

    #[test]
    fn mistakes_are_named() {
        for (line, why) in [
            (&["fly"][..], "unknown command `fly`: known are serve, run"),
            (&["run"], "needs TASK"),
            (&["run", "a", "b"], "put it in quotes"),
            (&["run", "a", "--repo"], "--repo"),
            (&["run", "a", "--repo="], "--repo needs a value"),
            (&["run", "a", "--speed"], "has no flag --speed: it has --repo"),
            (&["run", "a", "-x"], "has no flag -x"),
            (&["jobs", "-n", "0"], "from 1 to 1000"),
            (&["jobs", "-s", "done"], "--status must be one of"),
            (&["jobs", "x"], "takes no argument"),
            (&["serve", "--port", "http"], "--port must be"),
            (&["job"], "needs ID"),
            (&["jbos"], "did you mean `jobs`?"),
            (&["help", "profles"], "did you mean `profiles`?"),
            (&["run", "a", "--profle=x"], "did you mean `--profile`?"),
        ] {
            let error = of(line).unwrap_err();
            assert!(error.contains(why), "{line:?}: {error}");
        }
    }
}
