//! The command line, parsed. Does nothing else.

use super::help::About;
use crate::api;
use crate::job::Status;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::time::Duration;

#[derive(Debug, PartialEq)]
pub enum Command {
    Help(About),
    Version,
    Serve { host: Option<String>, port: Option<u16> },
    Run(Box<Run>),
    Jobs { limit: usize, status: Option<Status>, json: bool },
    Job { id: String, json: bool },
    Cancel { id: String, json: bool },
    Profiles { json: bool },
    Doctor { fix: bool, json: bool },
    Drain { limit: Duration, cancel: bool, json: bool },
    Status { alive: bool, wait: Option<Duration>, json: bool },
    InitSharedFs { root: Option<String>, json: bool },
    Config { json: bool },
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
    pub json: bool,
}

/// The commands and what each needs after its name.
const COMMANDS: [&str; 12] = [
    "serve",
    "run",
    "jobs",
    "job",
    "cancel",
    "drain",
    "doctor",
    "profiles",
    "status",
    "init-shared-fs",
    "config",
    "version",
];

/// What flags a command has besides `--help`, with their values; collected, not yet understood.
#[derive(Default)]
struct Raw {
    words: Vec<String>,
    flags: Vec<(&'static str, String)>,
}

pub fn parse(arguments: Vec<OsString>) -> Result<Command, String> {
    // An image whose entry point is this binary is also called by the name of the command.
    let is_named = arguments.first().is_some_and(|word| word == "agenticore");
    let mut parser = lexopt::Parser::from_args(arguments.into_iter().skip(usize::from(is_named)));
    let mut name: Option<&'static str> = None;
    let mut raw = Raw::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help(About::parse(name))),
            Short('V') | Long("version") => return Ok(Command::Version),
            Value(word) if name.is_none() => {
                let word = text(word)?;
                if word == "help" {
                    let about = parser.value().ok().and_then(|word| word.into_string().ok());
                    return Ok(Command::Help(About::parse(about.as_deref())));
                }
                let known = COMMANDS.iter().find(|known| **known == word);
                name =
                    Some(known.ok_or_else(|| format!("unknown command `{word}`: known are {}", COMMANDS.join(", ")))?);
            }
            Value(word) => raw.words.push(text(word)?),
            other => {
                let flag = flag_of(name.unwrap_or("serve"), &other)?;
                let value =
                    if flag.1 { text(parser.value().map_err(|error| error.to_string())?)? } else { String::new() };
                raw.flags.push((flag.0, value));
            }
        }
    }
    command(name.unwrap_or("serve"), raw)
}

/// The flag's long name, and whether a value follows.
fn flag_of(command: &str, argument: &lexopt::Arg) -> Result<(&'static str, bool), String> {
    let flags: &[(Option<char>, &'static str, bool)] = match command {
        "serve" => &[(None, "host", true), (None, "port", true)],
        "run" => &[
            (Some('r'), "repo", true),
            (Some('p'), "profile", true),
            (None, "base-ref", true),
            (None, "session-id", true),
            (None, "file-path", true),
            (None, "create-repo", false),
            (None, "private", false),
            (None, "public", false),
            (Some('w'), "wait", false),
            (None, "local", false),
            (None, "idempotency-key", true),
            (None, "json", false),
        ],
        "doctor" => &[(None, "fix", false), (None, "json", false)],
        "drain" => &[(None, "timeout", true), (None, "cancel", false), (None, "json", false)],
        "jobs" => &[(Some('n'), "limit", true), (Some('s'), "status", true), (None, "json", false)],
        "status" => &[(None, "alive", false), (None, "wait", true), (None, "json", false)],
        "init-shared-fs" => &[(None, "shared-root", true), (None, "json", false)],
        "version" => &[],
        _ => &[(None, "json", false)],
    };
    let found = flags.iter().find(|(short, long, _)| match argument {
        Short(letter) => *short == Some(*letter),
        Long(name) => long == name,
        Value(_) => false,
    });
    found.map(|(_, long, takes_value)| (*long, *takes_value)).ok_or_else(|| {
        let shown = match argument {
            Short(letter) => format!("-{letter}"),
            Long(name) => format!("--{name}"),
            Value(word) => word.display().to_string(),
        };
        let known: Vec<String> =
            flags.iter().map(|(_, long, _)| format!("--{long}")).chain(["--help".into()]).collect();
        format!("`agenticore {command}` has no flag {shown}: it has {}", known.join(", "))
    })
}

fn command(name: &'static str, raw: Raw) -> Result<Command, String> {
    let json = raw.has("json");
    if raw.has("private") && raw.has("public") {
        return Err("--private and --public exclude each other".into());
    }
    Ok(match name {
        "run" => Command::Run(Box::new(Run {
            task: raw.only_word("run", "TASK")?,
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
            json,
        })),
        "job" => Command::Job { id: raw.only_word("job", "ID")?, json },
        "cancel" => Command::Cancel { id: raw.only_word("cancel", "ID")?, json },
        _ => {
            raw.no_words(name)?;
            match name {
                "jobs" => Command::Jobs {
                    limit: raw.value("limit")?.map_or(Ok(api::LIST_DEFAULT), |text| api::limit(&text))?,
                    status: raw.value("status")?.map(|text| api::status(&text)).transpose()?,
                    json,
                },
                "drain" => Command::Drain {
                    limit: raw.value("timeout")?.map_or(Ok(api::DRAIN_DEFAULT), |text| api::drain_timeout(&text))?,
                    cancel: raw.has("cancel"),
                    json,
                },
                "doctor" => Command::Doctor { fix: raw.has("fix"), json },
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
                "config" => Command::Config { json },
                "version" => Command::Version,
                _ => Command::Serve { host: raw.value("host")?, port: raw.port()? },
            }
        }
    })
}

impl Raw {
    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|(name, _)| *name == flag)
    }

    fn idempotency_key(&self) -> Result<Option<String>, String> {
        let key = self.value("idempotency-key")?;
        if key.is_some() && self.has("local") {
            return Err("--idempotency-key needs a server: it excludes --local".into());
        }
        match key {
            Some(key) if key.bytes().any(|b| !(b' '..=b'~').contains(&b)) => {
                Err("--idempotency-key must be printable ASCII characters".into())
            }
            key => Ok(key),
        }
    }

    /// The last one given; an empty one is a mistake.
    fn value(&self, flag: &str) -> Result<Option<String>, String> {
        match self.flags.iter().rev().find(|(name, _)| *name == flag) {
            Some((_, value)) if value.is_empty() => Err(format!("--{flag} needs a value")),
            found => Ok(found.map(|(_, value)| value.clone())),
        }
    }

    fn port(&self) -> Result<Option<u16>, String> {
        let wrong = |text: &str| format!("--port must be a number from 0 to 65535, not `{text}`");
        self.value("port")?.map(|text| text.parse().map_err(|_| wrong(&text))).transpose()
    }

    fn only_word(&self, command: &str, what: &str) -> Result<String, String> {
        match &self.words[..] {
            [word] => Ok(word.clone()),
            [] => Err(format!("`agenticore {command}` needs {what}: see `agenticore {command} --help`")),
            _ => Err(format!("`agenticore {command}` takes one {what}, not {}: put it in quotes", self.words.len())),
        }
    }

    fn no_words(&self, command: &str) -> Result<(), String> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(format!("`agenticore {command}` takes no argument, but got `{word}`")),
        }
    }
}

fn text(word: OsString) -> Result<String, String> {
    word.into_string().map_err(|word| format!("`{}` is not valid UTF-8", word.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &[&str]) -> Result<Command, String> {
        parse(line.iter().map(OsString::from).collect())
    }

    #[test]
    fn commands_are_understood() {
        assert_eq!(of(&[]), Ok(Command::Serve { host: None, port: None }));
        assert_eq!(of(&["--port", "9"]), Ok(Command::Serve { host: None, port: Some(9) }));
        assert_eq!(
            of(&["jobs", "-n", "5", "--status=queued", "--json"]),
            Ok(Command::Jobs { limit: 5, status: Some(Status::Queued), json: true })
        );
        let Ok(Command::Run(run)) = of(&["run", "-r", "u", "-w", "--", "-x"]) else { panic!() };
        assert_eq!((run.task.as_str(), run.repo.as_deref(), run.wait), ("-x", Some("u"), true));
        assert!(matches!(of(&["run", "--help"]), Ok(Command::Help(About::Run))));
        assert_eq!(of(&["version"]), of(&["--version"]));
        assert_eq!(of(&["agenticore", "version"]), Ok(Command::Version));
        assert_eq!(of(&["agenticore"]), of(&["serve"]));
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
            (&["jobs", "-s", "done"], "`status` must be one of"),
            (&["jobs", "x"], "takes no argument"),
            (&["serve", "--port", "http"], "--port must be"),
            (&["job"], "needs ID"),
        ] {
            let error = of(line).unwrap_err();
            assert!(error.contains(why), "{line:?}: {error}");
        }
    }
}
