//! The words and flags of a command line, before a command makes sense of them.

use super::List;
use crate::api;
use crate::cli::commands::SERVER;
use crate::job::Overrides;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// What was given after a command's name; collected, not yet understood.
#[derive(Default)]
pub struct Raw {
    pub words: Vec<String>,
    pub flags: Vec<(&'static str, String)>,
}

impl Raw {
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|(name, _)| *name == flag)
    }

    pub fn list(&self, json: bool) -> Result<List, String> {
        // The server reads the rest; what is wrong with one of them it says in a sentence.
        let names = ["after", "repo", "profile", "branch", "submitted-by", "since", "search"];
        let mut asked = Vec::new();
        for name in names {
            let field = if name == "search" { "q".to_owned() } else { name.replace('-', "_") };
            asked.extend(self.value(name)?.map(|value| (field, value)));
        }
        asked.extend(self.has("mine").then(|| ("mine".to_owned(), "true".to_owned())));
        asked.extend(self.labels()?.into_iter().map(|(name, value)| ("label".to_owned(), format!("{name}={value}"))));
        let status = self.value("status")?.map(|text| api::status(&text)).transpose().map_err(of_flag)?;
        Ok(List { limit: self.limit()?, status, asked, watch: self.has("watch"), json })
    }

    pub fn labels(&self) -> Result<Vec<(String, String)>, String> {
        let given = self.flags.iter().filter(|(name, _)| *name == "label").map(|(_, value)| value);
        given.map(|text| api::label_pair(text).map_err(|why| format!("--label: {why}"))).collect()
    }

    /// Of `run`: the word, where it is not in a file.
    pub fn task(&self) -> Result<String, String> {
        match (self.has("task-file"), self.words.is_empty()) {
            (true, true) => Ok(String::new()),
            (true, false) => Err("TASK and --task-file exclude each other".into()),
            (false, _) => self.only_word("run", "TASK"),
        }
    }

    pub fn overrides(&self) -> Result<Overrides, String> {
        // The server knows the bounds, and says them.
        let number = |flag: &str| match self.value(flag)? {
            None => Ok(None),
            Some(text) => match text.parse::<u32>() {
                Ok(number) if number > 0 => Ok(Some(number)),
                _ => {
                    let what = if flag == "timeout" { "whole seconds" } else { "a whole number" };
                    Err(format!("--{flag} must be {what} from 1 on, not `{text}`"))
                }
            },
        };
        let timeout = number("timeout")?.map(u64::from);
        Ok(Overrides { model: self.value("model")?, max_turns: number("max-turns")?, timeout })
    }

    pub fn webhook_url(&self) -> Result<Option<String>, String> {
        let url = self.value("webhook-url")?;
        match url {
            Some(_) if self.has("local") => Err("--webhook-url needs a server: it excludes --local".into()),
            url => Ok(url),
        }
    }

    /// Of a job that is to be made: each name once.
    pub fn own_labels(&self) -> Result<BTreeMap<String, String>, String> {
        let mut labels = BTreeMap::new();
        for (name, value) in self.labels()? {
            if labels.insert(name.clone(), value).is_some() {
                return Err(format!("--label: `{name}` is given twice, and a job has one of each name"));
            }
        }
        Ok(labels)
    }

    pub fn limit(&self) -> Result<usize, String> {
        self.value("limit")?.map_or(Ok(api::LIST_DEFAULT), |text| api::limit(&text)).map_err(of_flag)
    }

    pub fn idempotency_key(&self) -> Result<Option<String>, String> {
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
    pub fn value(&self, flag: &str) -> Result<Option<String>, String> {
        match self.flags.iter().rev().find(|(name, _)| *name == flag) {
            Some((_, value)) if value.is_empty() => Err(format!("--{flag} needs a value")),
            found => Ok(found.map(|(_, value)| value.clone())),
        }
    }

    pub fn server(&self) -> Result<Option<String>, String> {
        let Some(url) = self.value(SERVER.name)? else { return Ok(None) };
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(format!("--server must begin with http:// or https://, not `{url}`"));
        }
        Ok(Some(url.trim_end_matches('/').to_owned()))
    }

    pub fn port(&self) -> Result<Option<u16>, String> {
        let wrong = |text: &str| format!("--port must be a number from 0 to 65535, not `{text}`");
        self.value("port")?.map(|text| text.parse().map_err(|_| wrong(&text))).transpose()
    }

    pub fn only_word(&self, command: &str, what: &str) -> Result<String, String> {
        match &self.words[..] {
            [word] => Ok(word.clone()),
            [] => Err(format!("`agenticore {command}` needs {what}: see `agenticore {command} --help`")),
            words => {
                let quotes = if what == "TASK" { ": put it in quotes" } else { "" };
                Err(format!("`agenticore {command}` takes one {what}, not {}{quotes}", words.len()))
            }
        }
    }

    pub fn some_words(&self, command: &str, what: &str) -> Result<Vec<String>, String> {
        match &self.words[..] {
            [] => Err(format!("`agenticore {command}` needs {what}: see `agenticore {command} --help`")),
            words => Ok(words.to_vec()),
        }
    }

    pub fn no_words(&self, command: &str) -> Result<(), String> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(format!("`agenticore {command}` takes no argument, but got `{word}`")),
        }
    }
}

/// A request's field is a flag here.
pub fn of_flag(why: String) -> String {
    ["limit", "status", "timeout"].iter().fold(why, |why, name| why.replace(&format!("`{name}`"), &format!("--{name}")))
}

pub fn text(word: OsString) -> Result<String, String> {
    word.into_string().map_err(|word| format!("`{}` is not valid UTF-8", word.display()))
}
