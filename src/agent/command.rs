//! How Claude is called: arguments, environment, prompt. Pure.
//!
//! The environment is an allow-list. Nothing in it can push, reach Redis, or open our own doors.

use crate::config::{self, Claude};
use crate::profile::Profile;
use crate::trace_context::TraceParent;
use std::collections::BTreeMap;
use std::path::Path;

/// What an agent may know of the server's environment as it is, beside what leads to the model.
const PASSED_ON: [&str; 7] = ["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME"];

/// Claude's credentials. With an OAuth token the other two are withheld: Claude would send them too.
const OAUTH_TOKEN: &str = "CLAUDE_CODE_OAUTH_TOKEN";
const OTHER_CREDENTIALS: &[&str] = &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"];

/// The directories of one attempt.
pub struct Directories<'a> {
    pub config_dir: &'a Path,
    pub mcp_file: &'a Path,
    pub home: &'a Path,
    pub temporary: &'a Path,
}

pub struct Invocation<'a> {
    pub profile: &'a Profile,
    pub directories: Directories<'a>,
    /// The session to go on with.
    pub resume: Option<&'a str>,
    /// A file whose text is added to the system prompt: the CLAUDE.md of a repository that is not trusted.
    pub system_prompt_file: Option<&'a Path>,
    /// Only for a profile that asks for it.
    pub github_token: Option<&'a str>,
    /// The server that it is for.
    pub github_server: &'a str,
    pub author: (&'a str, &'a str),
    /// What the agent's git may use although it belongs to another uid, as volumes may have it.
    pub safe_directories: &'a [String],
    pub is_root: bool,
    /// What the agent's own spans stand below, where telemetry is on.
    pub trace: Option<TraceParent>,
}

/// With it git logs in with the token that the agent has; gitcredentials(7).
const TOKEN_HELPER: &str =
    "!f() { test \"$1\" != get || printf 'username=x-access-token\\npassword=%s\\n' \"$GITHUB_TOKEN\"; }; f";

pub fn arguments(invocation: &Invocation) -> Vec<String> {
    let mut flags = invocation.profile.flags.clone();
    let more_mcp = flags.take("mcp-config");
    // Its text is in `system_prompt_file` already: Claude takes one such file.
    flags.take("append-system-prompt-file");
    let mut arguments: Vec<String> = ["-p", "--output-format", "stream-json", "--verbose"].map(str::to_owned).to_vec();
    if !invocation.profile.trust_repo {
        // "user" is the job's own configuration directory. Without this Claude runs the hooks and
        // servers of whatever it was pointed at, unasked.
        arguments.extend(["--setting-sources", "user", "--strict-mcp-config"].map(str::to_owned));
    }
    if let Some(file) = invocation.system_prompt_file {
        arguments.extend(["--append-system-prompt-file".to_owned(), file.display().to_string()]);
    }
    if let Some(session) = invocation.resume {
        arguments.extend(["--resume".to_owned(), session.to_owned()]);
    }
    arguments.extend(flags.arguments());
    // Last but for its own values: it takes every word up to the next flag.
    arguments.extend(["--mcp-config".to_owned(), invocation.directories.mcp_file.display().to_string()]);
    arguments.extend(more_mcp);
    arguments
}

pub fn environment(
    invocation: &Invocation,
    claude: &Claude,
    variables: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let mut environment: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| drop(environment.insert(name.to_owned(), value.to_owned()));
    set("PATH", "/usr/local/bin:/usr/bin:/bin");
    let has_oauth = variables.get(OAUTH_TOKEN).is_some_and(|token| !token.is_empty());
    let credentials = if has_oauth { &[OAUTH_TOKEN] } else { OTHER_CREDENTIALS };
    let extra = claude.extra_env.iter().map(String::as_str);
    let of_model = config::of_the_model(variables);
    for name in PASSED_ON.into_iter().chain(of_model).chain(credentials.iter().copied()).chain(extra) {
        if let Some(value) = variables.get(name).filter(|value| !value.is_empty()) {
            set(name, value);
        }
    }
    let directories = &invocation.directories;
    for (name, path) in
        [("HOME", directories.home), ("TMPDIR", directories.temporary), ("CLAUDE_CONFIG_DIR", directories.config_dir)]
    {
        set(name, &path.to_string_lossy());
    }
    let (name, address) = invocation.author;
    for role in ["AUTHOR", "COMMITTER"] {
        set(&format!("GIT_{role}_NAME"), name);
        set(&format!("GIT_{role}_EMAIL"), address);
    }
    set("GIT_TERMINAL_PROMPT", "0");
    // Neither must the agent's git collect garbage in a cache that others share.
    // The log tells which commits it made, wherever it left them.
    let mut of_git = vec![("gc.auto", "0"), ("maintenance.auto", "false"), ("core.logAllRefUpdates", "true")];
    of_git.extend(invocation.safe_directories.iter().map(|path| ("safe.directory", path.as_str())));
    let of_server = format!("credential.{}.helper", invocation.github_server);
    if invocation.github_token.is_some() {
        of_git.push((&of_server, TOKEN_HELPER));
    }
    for (number, (name, value)) in of_git.iter().enumerate() {
        set(&format!("GIT_CONFIG_KEY_{number}"), name);
        set(&format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    set("GIT_CONFIG_COUNT", &of_git.len().to_string());
    // Another job's agent may have planted some in the cache.
    set("GIT_NO_REPLACE_OBJECTS", "1");
    // A background task would hold the process open for ten minutes after its result; memory would
    // leak from one job into the next.
    set("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1");
    set("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1");
    set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    set("DISABLE_AUTOUPDATER", "1");
    set("CLAUDE_CODE_MAX_RETRIES", &claude.max_retries.to_string());
    if invocation.is_root && wants_bypass(invocation.profile) {
        // The last resort: Claude refuses to bypass permissions as root, and the profile insists.
        set("IS_SANDBOX", "1");
    }
    if let Some(token) = invocation.github_token {
        set("GITHUB_TOKEN", token);
        set("GH_TOKEN", token);
    }
    if let Some(otel) = &claude.otel {
        let flag = |truth: bool| if truth { "1" } else { "0" };
        // Headers, intervals, attributes: as the operator set them.
        let theirs = |name: &str| name.starts_with("OTEL_") && name != "OTEL_SERVICE_NAME";
        for (name, value) in variables.iter().filter(|(name, value)| theirs(name) && !value.is_empty()) {
            set(name, value);
        }
        if !otel.headers_text.is_empty() {
            set("OTEL_EXPORTER_OTLP_HEADERS", &otel.headers_text);
        }
        if let Some(trace) = &invocation.trace {
            set("TRACEPARENT", &trace.to_string());
        }
        for (name, value) in [
            ("CLAUDE_CODE_ENABLE_TELEMETRY", "1"),
            ("OTEL_METRICS_EXPORTER", "otlp"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
            // Without it Claude sends no spans (2.1.330).
            ("CLAUDE_CODE_ENHANCED_TELEMETRY_BETA", "1"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", otel.endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", otel.protocol.as_str()),
            ("OTEL_LOG_USER_PROMPTS", flag(otel.log_prompts)),
            ("OTEL_LOG_TOOL_DETAILS", flag(otel.log_tool_details)),
        ] {
            set(name, value);
        }
    }
    environment.into_iter().collect()
}

fn wants_bypass(profile: &Profile) -> bool {
    let bypasses = |name: &str| profile.flags.get(name).is_some_and(|value| value == true);
    profile.flags.get("permission-mode").is_some_and(|mode| mode == "bypassPermissions")
        || bypasses("dangerously-skip-permissions")
        || bypasses("allow-dangerously-skip-permissions")
}

/// The task as Claude's standard input. A task that begins like a slash command would be run as one,
/// without a model; a newline before it makes it text.
pub fn prompt(task: &str) -> String {
    if task.trim_start().starts_with('/') { format!("\n{task}") } else { task.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profiles;
    use std::time::Duration;

    fn with<T>(
        profile_yml: &str,
        variables: &[(&str, &str)],
        test: impl Fn(Vec<String>, BTreeMap<String, String>) -> T,
    ) -> T {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("p")).unwrap();
        std::fs::write(dir.path().join("p/profile.yml"), profile_yml).unwrap();
        let profile = Profiles::new(vec![dir.path().into()], Duration::from_secs(1)).find("p").unwrap();
        let variables: BTreeMap<String, String> =
            variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut config = variables.clone();
        config.insert("HOME".into(), "/h".into());
        let claude = crate::config::Config::from(config).unwrap().claude;
        let invocation = Invocation {
            profile: &profile,
            directories: Directories {
                config_dir: Path::new("/j/.claude"),
                mcp_file: Path::new("/j/.mcp.json"),
                home: Path::new("/t/home"),
                temporary: Path::new("/t/tmp"),
            },
            resume: Some("s-1"),
            system_prompt_file: None,
            github_token: profile.github_token.then_some("ght"),
            github_server: "https://github.com",
            author: ("n", "e"),
            safe_directories: &["/w".to_owned()],
            is_root: true,
            trace: None,
        };
        test(arguments(&invocation), environment(&invocation, &claude, &variables).into_iter().collect())
    }

    #[test]
    fn an_untrusted_repository_brings_no_settings_and_no_servers() {
        with("claude: {model: opus, mcp_config: [/m.json]}", &[], |arguments, _| {
            let expected = "-p --output-format stream-json --verbose --setting-sources user --strict-mcp-config \
             --resume s-1 \
                            --model opus --mcp-config /j/.mcp.json /m.json";
            assert_eq!(arguments.join(" "), expected);
        });
        with("trust_repo: true", &[], |arguments, _| {
            assert!(!arguments.iter().any(|a| a == "--strict-mcp-config" || a == "--setting-sources"), "{arguments:?}");
        });
    }

    #[test]
    fn the_environment_is_an_allow_list() {
        let variables = [
            ("PATH", "/p"),
            ("REDIS_URL", "redis://x"),
            ("AGENTICORE_API_KEYS", "k"),
            ("GITHUB_TOKEN", "t"),
            ("GH_TOKEN", "t"),
            ("GITHUB_APP_PRIVATE_KEY", "k"),
            ("GITHUB_APP_ID", "1"),
            ("GITHUB_APP_INSTALLATION_ID", "2"),
            ("SSH_AUTH_SOCK", "/s"),
            ("GIT_ASKPASS", "/a"),
            ("AWS_SECRET_ACCESS_KEY", "a"),
            ("ANTHROPIC_API_KEY", "ak"),
            ("MY_TOOL", "x"),
            ("AGENTICORE_AGENT_ENV", "MY_TOOL"),
            ("HTTPS_PROXY", "http://p"),
        ];
        with("", &variables, |_, env| {
            for present in
                ["PATH", "ANTHROPIC_API_KEY", "MY_TOOL", "HTTPS_PROXY", "HOME", "TMPDIR", "CLAUDE_CONFIG_DIR"]
            {
                assert!(env.contains_key(present), "{present}");
            }
            assert_eq!(env["HOME"], "/t/home");
            for absent in [
                "REDIS_URL",
                "AGENTICORE_API_KEYS",
                "GITHUB_TOKEN",
                "GH_TOKEN",
                "GITHUB_APP_PRIVATE_KEY",
                "SSH_AUTH_SOCK",
                "GIT_ASKPASS",
                "AWS_SECRET_ACCESS_KEY",
                "IS_SANDBOX",
                "AGENTICORE_AGENT_ENV",
            ] {
                assert!(!env.contains_key(absent), "{absent}");
            }
        });
        with("github_token: true", &variables, |_, env| assert_eq!(env["GITHUB_TOKEN"], "ght"));
    }

    #[test]
    fn with_an_oauth_token_the_other_credentials_are_withheld() {
        let variables = [("CLAUDE_CODE_OAUTH_TOKEN", "o"), ("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_AUTH_TOKEN", "t")];
        with("", &variables, |_, env| {
            assert!(env.contains_key("CLAUDE_CODE_OAUTH_TOKEN"));
            assert!(!env.contains_key("ANTHROPIC_API_KEY") && !env.contains_key("ANTHROPIC_AUTH_TOKEN"));
        });
    }

    #[test]
    fn the_sandbox_is_claimed_only_where_the_profile_insists() {
        with("claude: {permission_mode: bypassPermissions}", &[], |_, env| assert_eq!(env["IS_SANDBOX"], "1"));
    }

    #[test]
    fn a_task_is_never_a_command() {
        assert_eq!(prompt("/cost"), "\n/cost");
        assert_eq!(prompt(" /cost"), "\n /cost");
        assert_eq!(prompt("-x\0y"), "-x\0y");
    }
}
