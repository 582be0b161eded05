//! Agents that leave traps for the runner, for other jobs, or for their own work.

use crate::support::repo::git;
use crate::support::{Lab, Server, events, eventually};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The only cache of a lab.
fn cache(lab: &Lab) -> PathBuf {
    std::fs::read_dir(lab.path("repos")).unwrap().next().unwrap().unwrap().path().join("repo")
}

fn succeed(server: &Server, task: &str, url: &str) -> Value {
    let job = server.run(json!({"task": task, "repo_url": url}));
    assert_eq!((&job["status"], &job["error"]), (&json!("succeeded"), &json!(null)), "{task}: {job:#}");
    job
}

#[test]
fn what_one_agent_plants_in_the_cache_changes_no_other_job() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let plant = "[[bash b=$(git rev-parse HEAD); e=$(echo evil | git hash-object -w --stdin); t=$(printf '100644 blob %s\\tREADME.md\\n' $e | git mktree); \
                 c=$(git commit-tree -m evil $t); unset GIT_NO_REPLACE_OBJECTS; git replace $b $c; \
                 d=$(git rev-parse --git-common-dir) || exit; echo 1111111111111111111111111111111111111111 > $d/refs/heads/zzz; \
                 echo 2222222222222222222222222222222222222222 > $d/refs/remotes/origin/zzz; rm -f $d/../fetched; mkfifo $d/../fetched]] [[write kept.txt 1]] [[error stop here]]";
    // It fails with work in its worktree, which stays: the cache cannot be made anew.
    let planted = server.run(json!({"task": plant, "repo_url": repo.url()}));
    assert!(planted["worktree_path"].is_string(), "{planted:#}");
    repo.commit("main", &[("later.txt", "1")]);
    let job = succeed(
        &server,
        "[[bash test \"$(cat README.md)\" = hello]] [[bash test -f later.txt]] [[write a.txt 1]]",
        &repo.url(),
    );
    let branch = job["branch"].as_str().unwrap();
    assert_eq!(repo.file(branch, "README.md").as_deref(), Some("hello"));
    let told = json!(events(&lab, job["id"].as_str().unwrap())).to_string();
    assert!(!told.contains("error: "), "the agent saw the true files: {told}");
    server.stop();
}

#[test]
fn work_that_hides_is_published_or_kept() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let url = repo.url();
    // Flags in the index, and an index that is none, hide nothing.
    for hide in [
        "git update-index --assume-unchanged README.md",
        "git update-index --skip-worktree README.md",
        "echo garbage > $(git rev-parse --git-dir)/index",
    ] {
        let job = succeed(&server, &format!("[[bash {hide}]] [[write README.md changed]]"), &url);
        assert_eq!(repo.file(job["branch"].as_str().unwrap(), "README.md").as_deref(), Some("changed"), "{hide}");
        assert_eq!(job["worktree_path"], json!(null), "{hide}: {job:#}");
    }
    // Same size, within the second of the checkout.
    let job = succeed(&server, "[[write README.md HELLO]]", &url);
    assert_eq!(repo.file(job["branch"].as_str().unwrap(), "README.md").as_deref(), Some("HELLO"));
    // Commits on a branch that is not checked out at the end, beside a change and without one.
    for task in ["[[write b.txt 1]]", ""] {
        let stray = format!(
            "[[bash git checkout -q -b aside && echo 1 > aside.txt && git add -A && git commit -q -m aside && git checkout -q - && git branch -m aside aside-$$]] {task}"
        );
        let job = succeed(&server, &stray, &url);
        assert!(
            job["kept_because"].as_str().unwrap().contains("commit") && job["worktree_path"].is_string(),
            "{job:#}"
        );
        assert_eq!(job["pushed"], json!(!task.is_empty()), "{job:#}");
    }
    // What it amended and rebased away is not missed.
    let job = succeed(
        &server,
        "[[write d.txt 1]] [[commit first]] [[bash echo 2 > d.txt; git commit -q -a --amend -m second; git reset -q --soft HEAD~1; git commit -q -m third]]",
        &url,
    );
    assert_eq!((&job["kept_because"], &job["worktree_path"]), (&json!(null), &json!(null)), "{job:#}");
    // A repository in the repository is not published, and stays.
    let job = succeed(
        &server,
        "[[bash git init -q sub && cd sub && echo 1 > w && git add -A && git commit -q -m inner && echo 2 > w]] [[write c.txt 1]]",
        &url,
    );
    let kept = Path::new(job["worktree_path"].as_str().unwrap());
    assert!(job["kept_because"].as_str().unwrap().contains("`sub` is a repository of its own"), "{job:#}");
    assert!(kept.join("sub/w").exists() && repo.file(job["branch"].as_str().unwrap(), "c.txt").is_some());
    assert_eq!(
        git(kept, &["status", "--porcelain"]).unwrap(),
        "?? sub/",
        "a kept worktree shows what is not published"
    );
    // Nor is one without a commit; the rest is published.
    let job = succeed(&server, "[[bash git init -q empty]] [[write e.txt 1]]", &url);
    assert!(
        repo.file(job["branch"].as_str().unwrap(), "e.txt").is_some() && job["kept_because"].is_string(),
        "{job:#}"
    );
    // Looking at other branches of the remote is no work; a merge stays a merge.
    repo.commit("release", &[("r.txt", "1")]);
    let job = succeed(&server, "[[bash git checkout -q origin/release; git checkout -q -]]", &url);
    assert_eq!((&job["kept_because"], &job["pushed"]), (&json!(null), &json!(false)), "{job:#}");
    let job = succeed(
        &server,
        "[[write f.txt 1]] [[commit mine]] [[bash git merge -q --no-commit --no-ff origin/release]]",
        &url,
    );
    let parents = repo.git(&["log", "-1", "--format=%p", job["branch"].as_str().unwrap()]).unwrap();
    assert_eq!((parents.split(' ').count(), &job["kept_because"]), (2, &json!(null)), "{job:#}");
    // Work in a submodule, which only the agent can have checked out.
    let tree = repo.git(&["rev-parse", "main"]).unwrap();
    let work = lab.path("with-module");
    git(lab.dir.path(), &["clone", "-q", &repo.url(), work.to_str().unwrap()]).unwrap();
    std::fs::write(work.join(".gitmodules"), "[submodule \"m\"]\n\tpath = m\n\turl = ./m\n").unwrap();
    git(&work, &["add", ".gitmodules"]).unwrap();
    git(&work, &["update-index", "--add", "--cacheinfo", &format!("160000,{tree},m")]).unwrap();
    git(&work, &["commit", "-q", "-m", "a submodule"]).unwrap();
    git(&work, &["push", "-q", "origin", "HEAD:main"]).unwrap();
    assert_eq!(succeed(&server, "[[write g.txt 1]]", &url)["kept_because"], json!(null));
    let job = succeed(&server, "[[write m/new.txt 1]]", &url);
    assert!(
        job["kept_because"].as_str().unwrap().contains("submodule `m`") && job["worktree_path"].is_string(),
        "{job:#}"
    );
    server.stop();
}

#[test]
fn a_nested_repository_runs_nothing_in_the_runner() {
    let lab = Lab::new();
    let repo = lab.repo();
    let ran = lab.path("ran");
    let script = lab.path("filter.sh");
    std::fs::write(&script, format!("#!/bin/sh\nenv >> {}\ncat\n", ran.display())).unwrap();
    Command::new("chmod").arg("755").arg(&script).status().unwrap();
    let server = lab.serve();
    let nest = format!(
        "git init -q s; cd s; echo aa >v; git add -A; git commit -qm i; cd ..; git add s; git commit -qm gl; cd s; \
         printf 'v filter=e\\n' >.gitattributes; git config filter.e.clean {0}; git config core.fsmonitor {0}; touch -d '1 hour ago' v; echo cc >v",
        script.display()
    );
    let job = succeed(&server, &format!("[[bash {nest}]] [[write a.txt 1]]"), &repo.url());
    assert!(job["kept_because"].as_str().unwrap().contains("`s`"), "{job:#}");
    let ran = std::fs::read_to_string(ran).unwrap_or_default();
    assert!(!ran.contains("GIT_CONFIG_GLOBAL=/dev/null"), "the runner's git ran it: {ran}");
    server.stop();
}

#[test]
fn traps_for_the_tidying_are_none() {
    let lab = Lab::new();
    let repo = lab.repo();
    let outside = lab.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious.txt"), "precious").unwrap();
    let server = lab.serve();
    for trap in [
        "rm -rf $PWD; touch $PWD".to_owned(),
        format!("d=$PWD; cd /; rm -rf $d; ln -s {} $d", outside.display()),
        "a=$(git rev-parse --git-dir) && rm -rf $a && touch $a".into(),
        "a=$(git rev-parse --git-dir) && rm -f $a/HEAD && mkfifo $a/HEAD".into(),
        "rm -f .git; mkfifo .git".into(),
        "mkdir -p deep/er; echo 1 > deep/er/f; chmod 000 deep/er deep $HOME $TMPDIR".into(),
    ] {
        let job = server.run(json!({"task": format!("[[bash {trap}; true]]"), "repo_url": repo.url()}));
        assert!(matches!(job["status"].as_str(), Some("succeeded" | "failed")), "{trap}: {job:#}");
        let branch = job["branch"].as_str().unwrap();
        assert_eq!(repo.file(branch, "precious.txt"), None, "nothing outside was taken for the job's");
    }
    assert!(outside.join("precious.txt").exists());
    assert_eq!(succeed(&server, "[[write a.txt 1]]", &repo.url())["pushed"], true);
    server.stop();
    lab.assert_no_process();
}

#[test]
fn a_pipe_is_no_configuration() {
    let lab = Lab::new();
    let pipe = lab.path("home/.agenticore/pipe.json");
    std::fs::create_dir_all(pipe.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let profile = lab.profile("piped", "claude: {append_system_prompt_file: pipe.md}");
    assert!(Command::new("mkfifo").arg(profile.join("pipe.md")).status().unwrap().success());
    let server = lab.serve();
    let (status, answer) = server.post(&json!({"task": "t", "file_path": pipe.display().to_string()}));
    assert!(status == 400 && answer["error"].as_str().unwrap().contains("no regular file"), "{answer}");
    assert_eq!(server.run(json!({"task": "t", "profile": "piped"}))["status"], "failed");
    server.stop();
}

#[test]
fn a_lock_that_a_dead_git_left_on_the_jobs_branch_is_no_obstacle() {
    let lab = Lab::new();
    let repo = lab.repo();
    let gate = lab.path("gate");
    let server = lab.serve();
    succeed(&server, "t", &repo.url());
    let hold: Vec<_> =
        (0..3).map(|_| server.submit(json!({"task": format!("[[wait-for {}]]", gate.display())}))).collect();
    let id = server.submit(json!({"task": "[[write a.txt 1]]", "repo_url": repo.url()}));
    std::fs::write(cache(&lab).join(format!("refs/heads/agenticore-{}.lock", &id[..8])), "").unwrap();
    std::fs::write(gate, "").unwrap();
    assert_eq!(server.wait(&id)["pushed"], true);
    hold.iter().for_each(|id| drop(server.wait(id)));
    server.stop();
    lab.assert_tidy();
}

/// The agent kills its supervisor and then the server: nobody is left to end it but the next server.
#[test]
fn an_agent_that_kills_everybody_is_found_by_its_lock() {
    let lab = Lab::new();
    let pids = lab.path("pids");
    let task = format!(
        "[[bash echo $$ >> {0}; test $(wc -l < {0}) -gt 1 || {{ kill -9 $(awk '{{print $4}}' /proc/$PPID/stat); kill -9 $(cat {1}); sleep 600; }}]]",
        pids.display(),
        lab.path("jobs/.lock").display()
    );
    let mut server = lab.serve();
    let id = server.submit(json!({"task": task}));
    server.wait_for_death();
    let first = std::fs::read_to_string(&pids).unwrap();
    // One that nobody reaped has ended all the same.
    let lives =
        || std::fs::read_to_string(format!("/proc/{}/stat", first.trim())).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(lives(), "it lives on");
    let server = lab.serve();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&json!("succeeded"), &json!(2)), "{job:#}");
    assert!(!lives(), "it was ended before another was started");
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_job_that_was_handed_back_and_then_cancelled_leaves_nothing() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "2");
    let repo = lab.repo();
    let count = lab.path("count");
    let server = lab.serve();
    let task = format!("[[write a.txt 1]] [[count {}]] [[sleep 600000]]", count.display());
    let ids: Vec<_> = (0..2).map(|_| server.submit(json!({"task": task, "repo_url": repo.url()}))).collect();
    eventually("both run", || (std::fs::read_to_string(&count).unwrap_or_default().lines().count() == 2).then_some(()));
    server.kill();
    lab.assert_no_process();
    let lab = lab.with("AGENTICORE_MAX_PARALLEL_JOBS", "1");
    let server = lab.serve();
    let queued = eventually("one waits", || {
        let jobs = server.get("/jobs?status=queued").1["jobs"].clone();
        jobs[0]["id"].as_str().filter(|_| jobs.as_array().unwrap().len() == 1).map(str::to_owned)
    });
    assert_eq!(server.cancel(&queued).0, 200);
    eventually("it is tidied away", || (!lab.path("jobs/open").join(format!("{queued}.json")).exists()).then_some(()));
    ids.iter().for_each(|id| drop(server.cancel(id)));
    server.stop();
    assert_eq!(std::fs::read_dir(lab.path("jobs/open")).unwrap().count(), 0);
}

#[test]
fn files_that_are_no_records_keep_no_server_from_starting() {
    let lab = Lab::new();
    let server = lab.serve();
    let done = server.run(json!({"task": "[[say x]]"}));
    server.stop();
    let jobs = lab.path("jobs");
    std::fs::create_dir(jobs.join("open/x")).unwrap();
    std::fs::create_dir(jobs.join("x.tmp")).unwrap();
    std::fs::write(jobs.join("open/y.json"), "{").unwrap();
    std::fs::write(jobs.join("00000000-0000-4000-8000-000000000000.json"), "").unwrap();
    let server = lab.serve();
    assert_eq!(server.job(done["id"].as_str().unwrap())["output"], "x");
    assert_eq!(server.run(json!({"task": "[[say on]]"}))["status"], "succeeded");
    assert!(server.log().contains("y.json"), "{}", server.log());
    server.stop();
}

#[test]
fn slow_bodies_and_strangers_keep_nobody_out() {
    let lab = Lab::new().with("AGENTICORE_API_KEYS", "a-key");
    let server = lab.serve();
    let address = server.url.trim_start_matches("http://").to_owned();
    let slow: Vec<_> = (0..1050)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(&address).unwrap();
            let _ = stream.write_all(
                b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: a-key\r\nContent-Length: 1000\r\n\r\n{",
            );
            stream
        })
        .collect();
    eventually("a good one is answered", || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        agent.get(format!("{}/health", server.url)).call().ok().filter(|answer| answer.status() == 200).map(drop)
    });
    drop(slow);
    // Without a key a body is not even read.
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    stream.write_all(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    server.stop();
}

#[test]
fn what_a_push_leaves_running_on_this_machine_is_reaped() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["config", "gc.auto", "1"]).unwrap();
    let server = lab.serve();
    for n in 0..3 {
        succeed(&server, &format!("[[write a.txt {n}]]"), &repo.url());
    }
    let me = server.child.id().to_string();
    eventually("no child of the server is a zombie", || {
        let stats = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        let zombies = stats.filter(|stat| {
            let after: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().take(2).collect();
            after == ["Z", me.as_str()]
        });
        (zombies.count() == 0).then_some(())
    });
    server.stop();
}

/// S9: a name that stands for this machine's own address is refused as the address is, and nothing is asked there.
#[test]
fn a_name_for_this_machines_own_address_is_no_repository() {
    let probe = std::process::Command::new("unshare").args(["-m", "--propagation", "private", "true"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to make mount namespaces");
        eprintln!("SKIPPED a_name_for_this_machines_own_address_is_no_repository: no mount namespaces");
        return;
    }
    let lab = Lab::new().with("AGENTICORE_ALLOW_LOCAL_REPOS", "false").with("AGENTICORE_ALLOW_HTTP_REPOS", "true");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = lab.path("hosts");
    std::fs::write(&names, "127.0.0.1 localhost git.example\n169.254.169.254 meta.example\n").unwrap();
    let mut command = std::process::Command::new("unshare");
    command
        .args(["-m", "--propagation", "private", "sh", "-c"])
        .args(["mount --bind \"$0\" /etc/hosts && exec \"$@\"", names.to_str().unwrap()])
        .args([crate::support::BINARY, "serve"])
        .env_clear()
        .envs(&lab.variables);
    let server = crate::support::Server::start(command);
    for url in [format!("http://git.example:{port}/o/r"), "http://meta.example/o/r".into()] {
        let job = server.run(json!({"task": "[[say x]]", "repo_url": url}));
        let error = job["error"].as_str().unwrap_or_default();
        assert!(job["status"] == "failed" && error.contains("which this server does not use"), "{job:#}");
        let asked = server.send("/worktrees", &[], &json!({"repo_url": url}).to_string());
        assert_eq!(asked.0, 400, "{asked:?}");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "something was asked there");
    server.stop();
}
