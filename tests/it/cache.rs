//! The clone cache under trouble: shared, half-made, damaged, poisoned, locked by the dead.

use crate::support::repo::git;
use crate::support::{Lab, Repo, events, eventually, kinds};
use serde_json::json;
use std::fs;
use std::path::PathBuf;

fn cache_of(lab: &Lab, url: &str) -> PathBuf {
    let digest = ring::digest::digest(&ring::digest::SHA256, url.as_bytes());
    let key: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    lab.path("repos").join(key).join("repo")
}

#[test]
fn jobs_that_arrive_together_share_one_fetch() {
    let lab = Lab::new();
    let repo = lab.repo();
    let gate = lab.path("gate");
    let server = lab.serve();
    let hold: Vec<_> =
        (0..3).map(|_| server.submit(json!({"task": format!("[[wait-for {}]]", gate.display())}))).collect();
    let ids: Vec<_> = (0..12).map(|_| server.submit(json!({"task": "t", "repo_url": repo.url()}))).collect();
    fs::write(gate, "").unwrap();
    let fetches = ids.iter().chain(&hold).map(|id| {
        assert_eq!(server.wait(id)["status"], "succeeded");
        kinds(&lab, id).iter().filter(|kind| *kind == "cloning").count()
    });
    assert_eq!(fetches.sum::<usize>(), 1);
    // One that comes later sees what was pushed meanwhile.
    let newer = repo.commit("main", &[("n.txt", "1")]);
    assert_eq!(server.run(json!({"task": "t", "repo_url": repo.url()}))["base_commit"], newer.as_str());
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_branch_that_becomes_a_directory_is_no_obstacle() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.commit("x", &[("x.txt", "1")]);
    let server = lab.serve();
    assert_eq!(server.run(json!({"task": "t", "repo_url": repo.url(), "base_ref": "x"}))["status"], "succeeded");
    repo.git(&["branch", "-D", "x"]).unwrap();
    repo.commit("x/y", &[("y.txt", "1")]);
    let job = server.run(json!({"task": "t", "repo_url": repo.url(), "base_ref": "x/y"}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    server.stop();
}

#[test]
fn a_half_made_or_damaged_cache_is_made_anew() {
    let lab = Lab::new();
    let repo = lab.repo();
    let cache = cache_of(&lab, &repo.url());
    let server = lab.serve();
    let run = |what: &str| {
        repo.commit("main", &[("f.txt", what)]);
        let job = server
            .run(json!({"task": format!("[[bash test -f f.txt]] [[write w.txt {what}]]"), "repo_url": repo.url()}));
        assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{what}: {job:#}");
    };
    fs::create_dir_all(cache.join("objects/pack")).unwrap();
    fs::write(cache.join("objects/pack/tmp_pack_x"), "half").unwrap();
    run("half-made");
    fs::remove_file(cache.join("HEAD")).unwrap();
    run("without HEAD");
    for damage in ["empty", "garbage", "gone"] {
        for path in objects(&cache) {
            let mut permissions = fs::metadata(&path).unwrap().permissions();
            #[allow(clippy::permissions_set_readonly_false)]
            permissions.set_readonly(false);
            fs::set_permissions(&path, permissions).unwrap();
            match damage {
                "empty" => fs::write(&path, "").unwrap(),
                "garbage" => fs::write(&path, "garbage").unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
        }
        run(damage);
    }
    server.stop();
    lab.assert_tidy();
}

fn objects(directory: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("objects")).unwrap().flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.is_dir())
        .flat_map(|path| fs::read_dir(path).unwrap().flatten().map(|e| e.path()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_damaged_cache_is_never_taken_from_under_a_live_worktree() {
    let lab = Lab::new();
    let repo = lab.repo();
    let (gate, started) = (lab.path("gate"), lab.path("started"));
    let server = lab.serve();
    let task = format!("[[count {}]] [[write a.txt 1]] [[wait-for {}]]", started.display(), gate.display());
    let live = server.submit(json!({"task": task, "repo_url": repo.url()}));
    eventually("it works", || started.exists().then_some(()));
    let cache = cache_of(&lab, &repo.url());
    fs::rename(cache.join("HEAD"), cache.join("HEAD.away")).unwrap();
    let refused = server.run(json!({"task": "t", "repo_url": repo.url()}));
    assert_eq!(refused["status"], "failed", "{refused:#}");
    assert!(refused["error"].as_str().unwrap().contains("worktrees of other jobs"), "{refused:#}");
    fs::rename(cache.join("HEAD.away"), cache.join("HEAD")).unwrap();
    fs::write(gate, "").unwrap();
    let job = server.wait(&live);
    assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{job:#}");
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_shallow_clone_is_a_repository_too() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.commit("main", &[("b.txt", "1")]);
    let shallow = lab.path("shallow.git");
    let url = format!("file://{}", repo.path.display());
    git(lab.dir.path(), &["clone", "-q", "--bare", "--depth", "1", &url, shallow.to_str().unwrap()]).unwrap();
    let server = lab.serve();
    let task = "[[bash git rev-parse --is-shallow-repository && git log --oneline | wc -l]] [[write a.txt 1]]";
    for _ in 0..2 {
        let job = server.run(json!({"task": task, "repo_url": shallow}));
        assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{job:#}");
        let branch = format!("refs/heads/{}", job["branch"].as_str().unwrap());
        assert!(git(&shallow, &["rev-parse", &branch]).is_ok());
    }
    // A short hash names a commit as well.
    let head = git(&repo.path, &["rev-parse", "main"]).unwrap();
    let job = server.run(json!({"task": "[[say x]]", "repo_url": repo.url(), "base_ref": &head[..8]}));
    assert_eq!((&job["status"], &job["base_commit"]), (&json!("succeeded"), &json!(head)), "{job:#}");
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_clone_of_the_python_program_will_do() {
    let lab = Lab::new();
    let repo = lab.repo();
    let cache = cache_of(&lab, &repo.url());
    fs::create_dir_all(cache.parent().unwrap()).unwrap();
    git(&lab.path("repos"), &["clone", "-q", &repo.url(), cache.to_str().unwrap()]).unwrap();
    fs::write(cache.join("mine.txt"), "somebody's").unwrap();
    repo.commit("main", &[("later.txt", "1")]);
    let server = lab.serve();
    let job = server.run(json!({"task": "[[bash test -f later.txt]] [[write a.txt 1]]", "repo_url": repo.url()}));
    assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{job:#}");
    assert!(cache.join("mine.txt").exists() && cache.join(".git").is_dir());
    server.stop();
}

#[test]
fn a_lock_file_that_a_dead_git_left_is_removed_when_it_is_old() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    assert_eq!(server.run(json!({"task": "t", "repo_url": repo.url()}))["status"], "succeeded");
    repo.commit("main", &[("n.txt", "1")]);
    let stale =
        ["refs/remotes/origin/main.lock", "packed-refs.lock"].map(|name| cache_of(&lab, &repo.url()).join(name));
    for stale in &stale {
        fs::create_dir_all(stale.parent().unwrap()).unwrap();
        fs::write(stale, "").unwrap();
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        fs::File::options().write(true).open(stale).unwrap().set_modified(old).unwrap();
    }
    let job = server.run(json!({"task": "t", "repo_url": repo.url()}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    assert!(stale.iter().all(|stale| !stale.exists()));
    server.stop();
}

#[test]
fn the_lock_is_waited_for_with_a_limit() {
    use fs2::FileExt;
    let lab = Lab::new().with("AGENTICORE_LOCK_TIMEOUT", "300ms");
    let repo = lab.repo();
    let place = cache_of(&lab, &repo.url()).parent().unwrap().to_owned();
    fs::create_dir_all(&place).unwrap();
    let lock = fs::File::create(place.join(".lock")).unwrap();
    lock.lock_exclusive().unwrap();
    let server = lab.serve();
    let job = server.run(json!({"task": "t", "repo_url": repo.url()}));
    assert_eq!(job["status"], "failed", "{job:#}");
    assert!(job["error"].as_str().unwrap().contains("AGENTICORE_LOCK_TIMEOUT"), "{job:#}");
    drop(lock);
    assert_eq!(server.run(json!({"task": "t", "repo_url": repo.url()}))["status"], "succeeded");
    server.stop();
    lab.assert_tidy();
}

#[test]
fn remotes_that_are_of_no_use_each_get_their_own_sentence() {
    let lab = Lab::new();
    let repo = lab.repo();
    let empty = Repo::empty(&lab.path("empty.git"));
    let headless = Repo::with_commit(&lab.path("headless.git"));
    headless.git(&["symbolic-ref", "HEAD", "refs/heads/gone"]).unwrap();
    let unreachable = "http://127.0.0.1:1/o/r".to_owned();
    let (whole, partial) = (lab.path("whole.git"), lab.path("partial.git"));
    Repo::with_commit(&whole);
    git(&whole, &["config", "uploadpack.allowFilter", "true"]).unwrap();
    let whole = format!("file://{}", whole.display());
    let clone = ["clone", "-q", "--bare", "--filter=blob:none", &whole, partial.to_str().unwrap()];
    git(lab.dir.path(), &clone).unwrap();
    let sha256 = lab.path("sha256.git");
    git(lab.dir.path(), &["init", "-q", "-b", "main", "--object-format=sha256", sha256.to_str().unwrap()]).unwrap();
    git(&sha256, &["commit", "-q", "--allow-empty", "-m", "first"]).unwrap();
    let server = lab.serve();
    for (url, base, why) in [
        (lab.path("nothing.git").display().to_string(), None, "does not exist"),
        (empty.url(), None, "is empty: push a first commit"),
        (empty.url(), Some("main"), "is empty: push a first commit"),
        (headless.url(), None, "names no default branch"),
        (repo.url(), Some("nope"), "has no branch, tag or commit `nope`"),
        (repo.url(), Some("0123456789012345678901234567890123456789"), "has no branch, tag or commit"),
        (unreachable, None, "cannot be reached"),
        (sha256.display().to_string(), None, "names its objects by SHA-256"),
        (partial.display().to_string(), None, "is a partial clone"),
    ] {
        let job = server.run(json!({"task": "t", "repo_url": url, "base_ref": base}));
        assert_eq!(job["status"], "failed", "{job:#}");
        let error = job["error"].as_str().unwrap();
        assert!(error.contains(why), "{url} {base:?}: {error}");
    }
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_remote_that_never_answers_is_not_waited_for_for_ever() {
    let lab = Lab::new().with("AGENTICORE_GIT_TIMEOUT", "300ms");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = lab.serve();
    let job = server.run(json!({"task": "t", "repo_url": format!("http://{}/o/r", silent.local_addr().unwrap())}));
    assert_eq!(job["status"], "failed", "{job:#}");
    assert!(job["error"].as_str().unwrap().contains("0.3 s"), "{job:#}");
    // And a cancel does not wait for it either.
    let id = server.submit(json!({"task": "t", "repo_url": format!("http://{}/o/r", silent.local_addr().unwrap())}));
    eventually("it is fetched", || kinds(&lab, &id).contains(&"cloning".to_owned()).then_some(()));
    server.cancel(&id);
    eventually("it is tidied away", || (!lab.path("jobs/open").join(format!("{id}.json")).exists()).then_some(()));
    server.stop();
    lab.assert_tidy();
}

/// A stand-in for ssh, of this name, so that git takes it for OpenSSH.
fn ssh(lab: &Lab, script: &str) -> String {
    fs::create_dir(lab.path("bin")).unwrap();
    let ssh = lab.path("bin/ssh");
    fs::write(&ssh, format!("#!/bin/sh\n{script}")).unwrap();
    std::process::Command::new("chmod").arg("755").arg(&ssh).status().unwrap();
    ssh.display().to_string()
}

/// A connection of 200 000 bytes a second: whatever is set as git's limit, it is over before the clone is.
#[test]
fn a_slow_clone_takes_as_long_as_it_gets_on() {
    let lab = Lab::new().with("AGENTICORE_GIT_TIMEOUT", "5").with("AGENTICORE_LOCK_TIMEOUT", "4");
    let repo = lab.repo();
    let mut state = 1u32;
    let noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b' ' + (state >> 24) as u8 % 95)
    };
    let noise: String = std::iter::repeat_with(noise).take(2_000_000).collect();
    repo.commit("main", &[("noise", &noise)]);
    let slow = "while (sysread STDIN, $some, 40000) { syswrite STDOUT, $some; select undef, undef, undef, 0.2 }";
    let script = format!("for last; do :; done\nsh -c \"$last\" | perl -e '{slow}'\n");
    let ssh = ssh(&lab, &script);
    let lab = lab.with("GIT_SSH_COMMAND", ssh);
    let server = lab.serve();
    let task = json!({"task": "t", "repo_url": format!("git@ssh.example:{}", repo.url()), "profile": "review"});
    let (first, second) = (server.submit(task.clone()), server.submit(task));
    let told: Vec<String> = [first, second]
        .iter()
        .map(|id| {
            let job = server.wait(id);
            assert_eq!(job["status"], "succeeded", "{job:#}");
            events(&lab, id).iter().map(|event| event["text"].as_str().unwrap_or_default().to_owned()).collect()
        })
        .collect();
    let is_in = |text: &str| told.iter().any(|told| told.contains(text));
    assert!(is_in("Receiving objects: ") && is_in("waits for the clone cache"), "{told:?}");
    server.stop();
}

/// Over ssh as git speaks it; only the connection itself is a stand-in, which runs the command here.
#[test]
fn a_repository_over_ssh() {
    let lab = Lab::new();
    let repo = lab.repo();
    let log = lab.path("ssh.log");
    let ssh = ssh(&lab, &format!("echo \"$@\" >> {}\nfor last; do :; done\nexec sh -c \"$last\"\n", log.display()));
    let lab = lab.with("GIT_SSH_COMMAND", ssh).with("SSH_AUTH_SOCK", "/an/agent");
    let server = lab.serve();
    for url in [format!("ssh://git@ssh.example:2222{}", repo.url()), format!("git@ssh.example:{}", repo.url())] {
        let job = server.run(json!({"task": "[[write a.txt 1]]", "repo_url": url}));
        assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{job:#}");
    }
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("-p 2222 git@ssh.example git-upload-pack") && log.contains("git-receive-pack"), "{log}");
    assert_eq!(repo.branches().len(), 3);
    server.stop();
    lab.assert_tidy();
}

/// The connection ends in the middle of what the remote sends: that says nothing of the cache.
#[test]
fn a_cut_connection_is_no_damage_of_the_cache() {
    let lab = Lab::new();
    let repo = lab.repo();
    let whole = lab.path("whole");
    let some = "$n = 1200; while ($n > 0 && sysread STDIN, $b, $n) { syswrite STDOUT, $b; $n -= length $b }";
    fs::write(&whole, "").unwrap();
    let script = format!(
        "for last; do :; done\nif test -e {}; then exec sh -c \"$last\"; fi\nsh -c \"$last\" | (perl -e '{some}'; kill $$)\n",
        whole.display()
    );
    let ssh = ssh(&lab, &script);
    let lab = lab.with("GIT_SSH_COMMAND", ssh);
    let server = lab.serve();
    let url = format!("git@ssh.example:{}", repo.url());
    let run = |task: &str| server.run(json!({"task": task, "repo_url": url}));
    assert_eq!(run("[[say x]]")["status"], "succeeded");
    let cache = cache_of(&lab, &url);
    let known = git(&cache, &["rev-parse", "refs/remotes/origin/main"]).unwrap();
    let noise: String = (0..40_000).map(|n| format!("{n:x} ")).collect();
    repo.commit("main", &[("noise", &noise)]);
    fs::remove_file(&whole).unwrap();
    // What an earlier fetch left when it was ended.
    let left = cache.join("objects/pack/tmp_pack_left");
    fs::write(&left, "half").unwrap();
    let job = run("[[say x]]");
    assert!(job["error"].as_str().unwrap_or_default().contains("cannot be reached"), "{job:#}");
    let said: String =
        events(&lab, job["id"].as_str().unwrap()).iter().map(|event| event["text"].to_string()).collect();
    assert!(!said.contains("damaged"), "{said}");
    assert_eq!(git(&cache, &["rev-parse", "refs/remotes/origin/main"]).unwrap(), known);
    assert!(!left.exists());
    fs::write(&whole, "").unwrap();
    assert_eq!(run("[[say x]]")["status"], "succeeded");
    server.stop();
    lab.assert_tidy();
}
