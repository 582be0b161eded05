//! Whether Claude is there, and can log in with what the settings give it. Looks at files, and changes none.

use super::{Config, providers};
use std::collections::BTreeMap;
use std::path::Path;

/// What Claude logs in with, as it is called in the environment.
pub const CREDENTIALS: [&str; 3] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];

/// The file with the login of a machine, in Claude's own directory.
const LOGIN_FILE: &str = ".credentials.json";

/// Puts a credential whose kind is told by its beginning where Claude looks for that kind. One that is given
/// by its own name stays.
pub fn with_credential(mut variables: BTreeMap<String, String>, credential: Option<&str>) -> BTreeMap<String, String> {
    let Some(credential) = credential else { return variables };
    let kind = match credential {
        key if key.starts_with("sk-ant-api") => "ANTHROPIC_API_KEY",
        token if token.starts_with("sk-ant-oat") => "CLAUDE_CODE_OAUTH_TOKEN",
        _ => "ANTHROPIC_AUTH_TOKEN",
    };
    let variable = variables.entry(kind.to_owned()).or_default();
    if variable.trim().is_empty() {
        *variable = credential.to_owned();
    }
    variables
}

impl Config {
    fn is_claude(&self) -> bool {
        Path::new(&self.claude.binary).file_name().is_some_and(|name| name == "claude")
    }

    /// What Claude logs in with, as far as it is known from here. The error says what to set.
    pub fn login(&self) -> Result<String, String> {
        let has = |name: &&str| self.variables.get(*name).is_some_and(|value| !value.trim().is_empty());
        let file = self.claude.login_dir.as_ref().map(|dir| dir.join(LOGIN_FILE)).filter(|path| path.is_file());
        // Claude asks it whatever else is given, and it has logins of its own.
        if let Some(provider) = providers::in_use(&self.variables).next() {
            return Ok(format!("{}'s", provider.name));
        }
        if let Some(credential) = CREDENTIALS.into_iter().find(|name| has(name)) {
            return Ok(match has(&"ANTHROPIC_BASE_URL") {
                true => format!("{credential}, at ANTHROPIC_BASE_URL"),
                false => credential.to_owned(),
            });
        }
        match file {
            Some(file) => Ok(format!("this machine's, {}", file.display())),
            None if !self.is_claude() => Ok(format!("whatever `{}` brings", self.claude.binary)),
            None => Err(self.where_to_set("anthropic-api-key", "ANTHROPIC_API_KEY (or CLAUDE_CODE_OAUTH_TOKEN)")),
        }
    }

    /// What agents lack to run here, and what to do. None: nothing that could be known from here. A binary of
    /// another name than `claude` is taken to bring a login of its own.
    pub fn missing_for_agents(&self) -> Option<String> {
        let binary = &self.claude.binary;
        let program = self.program(binary).is_none().then(|| {
            format!("the program `{binary}`, which is not here: install Claude Code, or set AGENTICORE_CLAUDE_BINARY")
        });
        let login = self.login().err().map(|remedy| format!("a login for Claude: {remedy}"));
        // All of it at once: to put right the one and then hear of the other takes two restarts.
        match (login, program) {
            (Some(login), Some(program)) => Some(format!("{login}; and for {program}")),
            (login, program) => login.or(program),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings on a machine that has a program named `claude`, for as long as they are used.
    struct Here(Config, #[allow(dead_code)] tempfile::TempDir);

    impl std::ops::Deref for Here {
        type Target = Config;
        fn deref(&self) -> &Config {
            &self.0
        }
    }

    fn config(pairs: &[(&str, &str)]) -> Here {
        let dir = tempfile::tempdir().unwrap();
        let claude = dir.path().join("claude");
        std::fs::write(&claude, "").unwrap();
        let pairs =
            [&[("HOME", "/nonexistent"), ("AGENTICORE_CLAUDE_BINARY", claude.to_str().unwrap())], pairs].concat();
        let variables = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Here(Config::from(variables).unwrap(), dir)
    }

    #[test]
    fn a_credential_is_told_by_its_beginning() {
        for (value, kind) in [
            ("sk-ant-api03-x", "ANTHROPIC_API_KEY"),
            ("sk-ant-oat01-x", "CLAUDE_CODE_OAUTH_TOKEN"),
            ("sk-litellm", "ANTHROPIC_AUTH_TOKEN"),
            (" sk-ant-api03-x\n", "ANTHROPIC_API_KEY"),
        ] {
            let config = config(&[("AGENTICORE_ANTHROPIC_CREDENTIAL", value)]);
            assert_eq!(config.variables[kind], value.trim());
            assert!(config.missing_for_agents().is_none() && config.secrets().contains(&value.trim().to_owned()));
        }
        let both = config(&[("AGENTICORE_ANTHROPIC_CREDENTIAL", "sk-ant-api-1"), ("ANTHROPIC_API_KEY", "own")]);
        assert_eq!(both.variables["ANTHROPIC_API_KEY"], "own");
    }

    #[test]
    fn a_missing_for_agents_says_what_to_do() {
        let here = config(&[]).missing_for_agents().unwrap();
        assert!(here.contains("set ANTHROPIC_API_KEY"), "{here}");
        let pod = config(&[("AGENTICORE_SECRET_NAME", "agenticore-secrets")]).missing_for_agents().unwrap();
        assert!(pod.contains("`anthropic-api-key` in the Secret `agenticore-secrets`"), "{pod}");
        for enough in [
            // A wrapper that is there: /bin/sh stands for one.
            &[("AGENTICORE_CLAUDE_BINARY", "/bin/sh")][..],
            &[("CLAUDE_CODE_OAUTH_TOKEN", "t")],
            &[("CLAUDE_CODE_USE_BEDROCK", "1")],
        ] {
            assert_eq!(config(enough).missing_for_agents(), None, "{enough:?}");
        }
        let gone =
            config(&[("ANTHROPIC_API_KEY", "k"), ("AGENTICORE_CLAUDE_BINARY", "claude"), ("PATH", "/nonexistent")]);
        let gone = gone.missing_for_agents().unwrap();
        assert!(gone.contains("`claude`, which is not here"), "{gone}");
        assert!(config(&[("CLAUDE_CODE_USE_BEDROCK", "0")]).missing_for_agents().is_some(), "it is off");
    }
}
