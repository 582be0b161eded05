//! The command line: what it prints, and its exit codes.

use crate::support::fleet::Fleet;
use crate::support::{GitHub, Lab, Server, eventually};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Output, Stdio};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A lab whose client commands reach `server`.
fn client(lab: Lab, server: &Server) -> Lab {
    lab.with("AGENTICORE_PORT", server.port())
}

#[test]
fn a_job_by_commands_alone() {
    let lab = Lab::new();
    let server = lab.serve();
    let lab = client(lab, &server);
    assert_eq!(out(&lab.run(&["version"])), format!("agenticore {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(lab.run(&["status"]).status.code(), Some(0));
    assert_eq!(serde_json::from_slice::<Value>(&lab.run(&["status", "--json"]).stdout).unwrap()["status"], "ok");

    let queued: Value = serde_json::from_slice(&lab.run(&["run", "[[say hi]]", "--json"]).stdout).unwrap();
    let id = queued["id"].as_str().unwrap();
    server.wait(id);
    let shown = lab.run(&["job", &id[..8]]);
    assert!(
        out(&shown).contains(id)
            && out(&shown).contains("succeeded")
            && out(&shown).contains("\nhi\n\nnext\n  agenticore logs "),
        "{}",
        out(&shown)
    );
    assert!(!out(&shown).contains('\u{1b}'), "no colour where there is no terminal");
    let one: Value = serde_json::from_slice(&lab.run(&["job", &id[..4], "--json"]).stdout).unwrap();
    assert_eq!(one["id"], id);
    let list: Value = serde_json::from_slice(&lab.run(&["jobs", "--json"]).stdout).unwrap();
    assert_eq!(list[0]["id"], id);
    assert!(out(&lab.run(&["jobs", "-s", "queued"])).contains("no jobs"));
    let profiles: Value = serde_json::from_slice(&lab.run(&["profiles", "--json"]).stdout).unwrap();
    assert_eq!(profiles[0]["name"], "coding");
    assert!(out(&lab.run(&["profiles"])).contains("review"));
    let waited = lab.run(&["run", "[[say waited for]]", "--wait"]);
    assert!(waited.status.code() == Some(0) && out(&waited).contains("waited for"), "{}", out(&waited));
    let mut stdin = lab.command(&["run", "-", "-w"]);
    let mut child = stdin.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"--help [[say from stdin]]").unwrap();
    assert!(out(&child.wait_with_output().unwrap()).contains("from stdin"));
    server.stop();
}

#[test]
fn exit_codes_mean_what_the_table_says() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    github.repository("me/project");
    let lab = lab.with_all(github.variables_with_token()).with("AGENTICORE_PUBLISH_TRIES", "1");
    let server = lab.serve();
    let lab = client(lab, &server);
    let code = |arguments: &[&str]| {
        let done = lab.run(arguments);
        (done.status.code().unwrap(), out(&done) + &err(&done))
    };
    assert_eq!(code(&["run", "t", "--wait"]).0, 0);
    assert_eq!(code(&["run", "[[error no]]", "--wait"]).0, 1);
    for usage in [
        &["fly"][..],
        &["run"],
        &["run", ""],
        &["run", " "],
        &["run", "t", "--speed", "9"],
        &["run", "t", "--repo"],
        &["run", "t", "--profile", "nope"],
        &["run", "t", "--repo", "ext::x"],
        &["run", "t", "--repo", "https://h/r", "--base-ref=-x"],
        &["jobs", "--limit", "0"],
        &["jobs", "--status", "done"],
        &["job", "../../etc"],
        &["job", "00000000-0000-4000-8000-000000000000"],
        &["cancel", "abcd"],
    ] {
        let (found, said) = code(usage);
        assert!(
            found == 2 && said.starts_with("agenticore: ") && said.lines().count() == 1,
            "{usage:?}: {found} {said}"
        );
    }
    github.fail_next("POST", 500);
    let (found, said) = code(&["run", "[[write a.txt 1]]", "--repo", &github.repo_url("me/project"), "--wait"]);
    assert_eq!(found, 5, "{said}");
    let gate = lab.path("gate");
    let id = server.submit(json!({"task": format!("[[wait-for {}]]", gate.display())}));
    eventually("it runs", || (server.job(&id)["status"] == "running").then_some(()));
    let waiting = lab
        .command(&["run", &format!("[[wait-for {}]]", gate.display()), "--wait"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let other = eventually("the other runs", || {
        let jobs = server.get("/jobs?status=running").1["jobs"].clone();
        jobs.as_array()
            .unwrap()
            .iter()
            .find(|job| job["id"] != id.as_str())
            .map(|job| job["id"].as_str().unwrap().to_owned())
    });
    assert_eq!(code(&["cancel", &id]).0, 0);
    assert_eq!(code(&["cancel", &other]).0, 0);
    assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(4));
    server.stop();
    assert_eq!(code(&["status"]).0, 6);
    assert_eq!(code(&["run", "t"]).0, 6);
}

#[test]
fn config_shows_values_and_sources_and_no_secret() {
    let lab = Lab::new().with("GITHUB_TOKEN", "ghs_very-secret");
    std::fs::create_dir_all(lab.path("home/.agenticore")).unwrap();
    std::fs::write(lab.path("home/.agenticore/config.yml"), "repos:\n  max_parallel_jobs: 7\n").unwrap();
    let shown = out(&lab.run(&["config"]));
    assert!(!shown.contains("very-secret") && shown.contains("********"), "{shown}");
    let all: Value = serde_json::from_slice(&lab.run(&["config", "--json"]).stdout).unwrap();
    let of = |name: &str| all.as_array().unwrap().iter().find(|e| e["variable"] == name).unwrap().clone();
    assert_eq!(of("AGENTICORE_MAX_PARALLEL_JOBS")["value"], "7");
    assert!(of("AGENTICORE_MAX_PARALLEL_JOBS")["source"].as_str().unwrap().contains("config.yml"));
    assert_eq!(
        (&of("AGENTICORE_STALL_TIMEOUT")["source"], &of("GITHUB_TOKEN")["value"]),
        (&json!("default"), &json!("********"))
    );
}

#[test]
fn a_local_run_needs_no_server_and_shows_what_happens() {
    let lab = Lab::new();
    let repo = lab.repo();
    let done = lab.run(&["run", "--local", "[[write a.txt 1]] [[say I did it]]", "--repo", &repo.url()]);
    let text = out(&done);
    assert_eq!(done.status.code(), Some(0), "{text}{}", err(&done));
    for part in ["agent started", "does  Write: a.txt", "says  I did it", "pushed: agenticore-", "cost"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(repo.branches().len(), 2);
    let json = lab.run(&["run", "--local", "[[error no]]", "--json"]);
    let record: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json.status.code(), &record["status"], &record["error"]), (Some(1), &json!("failed"), &json!("no")));
    let bad = lab.run(&["run", "--local", "t", "--profile", "nope"]);
    assert!(bad.status.code() == Some(2) && err(&bad).contains("known are coding"), "{}", err(&bad));
    lab.assert_tidy();
}

#[test]
fn a_local_run_goes_with_ctrl_c_and_the_next_one_tidies_after_a_killed_one() {
    let lab = Lab::new();
    let repo = lab.repo();
    let started = lab.path("started");
    let spawn = || {
        let task = format!("[[write a.txt 1]] [[count {}]] [[sleep 600000]]", started.display());
        let child =
            lab.command(&["run", "--local", &task, "--repo", &repo.url()]).stdout(Stdio::null()).spawn().unwrap();
        eventually("it works", || started.exists().then_some(()));
        std::fs::remove_file(&started).unwrap();
        child
    };
    let mut child = spawn();
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    lab.assert_no_process();
    let names = std::fs::read_dir(lab.path("worktrees")).unwrap().flatten().map(|entry| entry.file_name());
    let worktrees = names.filter(|name| !name.to_string_lossy().starts_with('.')).count();
    assert_eq!(worktrees, 1, "cancelled with work in it: kept");
    let mut child = spawn();
    child.kill().unwrap();
    child.wait().unwrap();
    lab.assert_no_process();
    let next = lab.run(&["run", "--local", "t"]);
    assert_eq!(next.status.code(), Some(0), "{}", err(&next));
    let left: Vec<_> = std::fs::read_dir(lab.path("tmp")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["agenticore-jobs"]);
}

#[test]
fn help_teaches_every_command() {
    let lab = Lab::new();
    let all = out(&lab.run(&["--help"]));
    for command in ["serve", "run", "jobs", "job", "cancel", "profiles", "status", "config"] {
        assert!(all.contains(&format!("agenticore {command}")), "{command}");
        let one = lab.run(&[command, "--help"]);
        assert!(one.status.code() == Some(0) && out(&one).starts_with(&format!("agenticore {command}")), "{command}");
    }
}

/// A timer or a cron job has no HOME, and needs none to ask a server.
#[test]
fn who_asks_a_server_needs_no_home() {
    let lab = Lab::new();
    let server = lab.serve();
    let without = |words: &[&str]| {
        let mut command = lab.command(words);
        command.env_clear().env("AGENTICORE_URL", &server.url).output().unwrap()
    };
    for words in [&["status", "--json"][..], &["jobs"], &["run", "[[say x]]", "--wait"], &["profiles"]] {
        let done = without(words);
        assert_eq!(done.status.code(), Some(0), "{words:?} {done:?}");
    }
    assert_eq!(without(&["serve"]).status.code(), Some(2));
    server.stop();
}

/// The shells themselves load what is printed for them, and complete by it.
#[test]
fn shells_load_the_completions() {
    let lab = Lab::new();
    let print = |shell: &str| {
        let path = lab.path(&format!("completions.{shell}"));
        std::fs::write(&path, lab.run(&["completions", shell]).stdout).unwrap();
        path.display().to_string()
    };
    let told = |program: &str, arguments: &[&str]| -> String {
        let mut command = std::process::Command::new(program);
        let home = lab.path("home");
        let done = command.args(arguments).env("HOME", home).current_dir(lab.dir.path()).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{program}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let bash = format!(
        "source {}; ask() {{ COMP_WORDS=(agenticore \"$@\"); COMP_CWORD=$#; _agenticore; echo \"${{COMPREPLY[*]}}\"; }}; \
         ask can; ask run --pro; ask run --profile ''; ask jobs -s ca; \
         ask completions z; ask hooks ''; ask jobs -",
        print("bash")
    );
    let lines = told("bash", &["--norc", "-c", &bash]);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[..5], ["cancel", "--profile", "", "cancelled", "zsh"], "{lines:?}");
    assert!(lines[5].starts_with("sync ") && lines[6].contains("--since") && lines[6].contains("--help"), "{lines:?}");
    let zsh = format!(
        "autoload -Uz compinit && compinit -u -D && source {} && print -- $_comps[agenticore] && whence -w _agenticore",
        print("zsh")
    );
    assert_eq!(told("zsh", &["-f", "-c", &zsh]), "_agenticore\n_agenticore: function\n");
    let fish = format!(
        "source {}; complete -C 'agenticore can'; complete -C 'agenticore jobs --sin'; \
         complete -C 'agenticore jobs -s que'; complete -C 'agenticore completions zs'",
        print("fish")
    );
    let lines = told("fish", &["--no-config", "-c", &fish]);
    assert!(lines.starts_with("cancel\tcancel jobs\n") && lines.contains("--since\tnot older than"), "{lines}");
    assert!(lines.contains("\nqueued\t") && lines.contains("\nzsh"), "{lines}");
}

#[test]
fn a_watched_table_is_drawn_again_when_a_job_changes() {
    let lab = Lab::new();
    let server = lab.serve();
    let lab = client(lab, &server);
    let refused = lab.run(&["watch"]);
    assert!(refused.status.code() == Some(2) && String::from_utf8_lossy(&refused.stderr).contains("needs a terminal"));
    // On a terminal of its own.
    let script = format!("stty cols 80 rows 12; exec {} watch", crate::support::BINARY);
    let mut command = std::process::Command::new("script");
    command.args(["-qfec", &script, "/dev/null"]).env_clear().envs(&lab.variables).env("TERM", "xterm");
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let kept = seen.clone();
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = std::io::Read::read(&mut out, &mut piece) {
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    });
    eventually("it is drawn", || seen.lock().unwrap().contains("no jobs").then_some(()));
    let id = server.submit(json!({"task": "[[say hi]]"}));
    server.wait(&id);
    eventually("the job is shown as it ended", || {
        let seen = seen.lock().unwrap();
        (seen.contains(&id[..8]) && seen.contains("succeeded") && seen.contains(" at http://")).then_some(())
    });
    // Ctrl-C ends it, and the shell goes on on a line of its own.
    child.stdin.take().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    eventually("the line is ended", || seen.lock().unwrap().ends_with("\n").then_some(()));
    let unpublished = lab.run(&["open", &id]);
    let told = String::from_utf8_lossy(&unpublished.stdout).into_owned();
    assert_eq!(told.trim(), format!("{}/?job={id}", server.url), "where there is no pull request: the page");
    server.stop();
}

#[test]
fn init_asks_on_a_terminal() {
    let lab = Lab::new();
    let script = format!("exec {} init --jobs 2", crate::support::BINARY);
    let mut command = std::process::Command::new("script");
    command.args(["-qfec", &script, "/dev/null"]).env_clear().envs(&lab.variables).env("TERM", "xterm");
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Two answers, and twice what is proposed.
    child.stdin.take().unwrap().write_all(b"mine\nhaiku\n\nno\n").unwrap();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("Which model does it use? [sonnet]") && !said.contains("How many jobs"), "{said}");
    let profile = std::fs::read_to_string(lab.path("home/.agenticore/profiles/mine/profile.yml"));
    let profile = profile.unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(profile.contains("model: \"haiku\"") && profile.contains("auto_pr: false"), "{profile}");
    let settings = std::fs::read_to_string(lab.path("home/.agenticore/config.yml")).unwrap();
    assert!(settings.contains("port: 8200") && settings.contains("max_parallel_jobs: 2"), "{settings}");
}

#[test]
fn the_status_has_all_pods_of_a_fleet() {
    let Some(fleet) = Fleet::new() else { return };
    let pods = vec![fleet.pod("pod-0"), fleet.pod("pod-1")];
    let names = |status: &serde_json::Value| {
        let all = status["pods"].as_array().unwrap();
        all.iter().map(|pod| pod["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually("both are known", || (names(&pods[0].get("/status").1) == ["pod-0", "pod-1"]).then_some(()));
    let shown = fleet.command("pod-0", &["status", "--server", &pods[1].url], &[]).output().unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("2 pods:") && text.matches("slots, version").count() == 2, "{shown:?}");
    fleet.finish(pods);
}
