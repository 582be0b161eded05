//! Work that is not published outlives the disk it was made on: it is saved, shown, and gone on from.

use crate::support::fleet::Fleet;
use crate::support::repo::git;
use crate::support::{Lab, eventually};
use serde_json::{Value, json};
use std::path::Path;

/// What was saved, fetched into a clone of the repository as the record says; the clone.
fn fetched(lab: &Lab, url: &str, job: &Value) -> std::path::PathBuf {
    let clone = lab.path(&format!("clone-{}", uuid::Uuid::new_v4().simple()));
    git(&lab.path("."), &["clone", "-q", url, clone.to_str().unwrap()]).unwrap();
    let bundle = job["kept"]["bundle"].as_str().unwrap_or_else(|| panic!("{job:#}"));
    assert!(job["kept"]["fetch"].as_str().unwrap().starts_with(&format!("git fetch {bundle} ")), "{job:#}");
    git(&clone, &["fetch", "-q", bundle, "+refs/kept/*:refs/kept/*"]).unwrap();
    clone
}

const WORK: &str = "[[bash echo c > committed.txt; git add -A; git commit -qm mine; echo u > new.txt; rm README.md; \
                    echo s > staged.txt; git add staged.txt; git branch side; git stash list]]";

fn assert_work(clone: &Path, job: &Value) {
    let show = |what: &str| git(clone, &["show", what]);
    assert_eq!(show("refs/kept/work:new.txt").as_deref(), Ok("u"), "{job:#}");
    assert_eq!(show("refs/kept/work:staged.txt").as_deref(), Ok("s"));
    assert_eq!(show("refs/kept/head:committed.txt").as_deref(), Ok("c"));
    assert!(show("refs/kept/work:README.md").is_err() && show("refs/kept/head:new.txt").is_err());
}

#[test]
fn the_work_of_a_job_that_failed_or_was_cancelled_is_saved() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let failed = server.run(json!({"task": format!("{WORK} [[error no]]"), "repo_url": repo.url()}));
    let started = lab.path("started");
    let task = format!("{WORK} [[count {}]] [[sleep 600000]]", started.display());
    let cancelled = server.submit(json!({"task": task, "repo_url": repo.url()}));
    eventually("it works", || started.exists().then_some(()));
    server.cancel(&cancelled);
    for id in [failed["id"].as_str().unwrap(), &cancelled] {
        let job = eventually("its work is saved", || Some(server.job(id)).filter(|job| job["kept"].is_object()));
        assert_work(&fetched(&lab, &repo.url(), &job), &job);
        let shown = lab.command(&["job", id]).env("AGENTICORE_URL", &server.url).output().unwrap();
        assert!(String::from_utf8_lossy(&shown.stdout).contains("kept           git fetch /"), "{shown:?}");
    }
    // One that lost nothing keeps nothing.
    let well = server.run(json!({"task": "[[write a.txt x]]", "repo_url": repo.url()}));
    let listed = server.get("/jobs?view=summary").1;
    let kept: Vec<&Value> = listed["jobs"].as_array().unwrap().iter().map(|job| &job["has_kept_work"]).collect();
    assert_eq!(kept, [false, true, true], "{listed:#}");
    assert!(well["kept"].is_null() && !lab.path("jobs/kept").join(well["id"].as_str().unwrap()).exists());
    server.stop();
}

#[test]
fn what_is_too_large_is_not_saved_and_that_is_said() {
    let lab = Lab::new().with("AGENTICORE_KEPT_LIMIT", "1");
    let repo = lab.repo();
    let server = lab.serve();
    let job = server.run(json!({
        "task": "[[bash head -c 3000000 /dev/urandom > large.bin]] [[error no]]", "repo_url": repo.url()
    }));
    let job = server.job(job["id"].as_str().unwrap());
    assert!(job["kept"]["bundle"].is_null(), "{job:#}");
    assert!(job["kept"]["lacks"].as_str().unwrap().contains("AGENTICORE_KEPT_LIMIT is 1 MiB"), "{job:#}");
    assert!(Path::new(job["worktree_path"].as_str().unwrap()).join("large.bin").exists());
    server.stop();
}

#[test]
fn what_was_saved_goes_with_the_jobs_time_to_live() {
    let lab = Lab::new().with("AGENTICORE_JOB_TTL", "3");
    let repo = lab.repo();
    let server = lab.serve();
    let job = server.run(json!({"task": format!("{WORK} [[error no]]"), "repo_url": repo.url()}));
    let kept = lab.path("jobs/kept").join(job["id"].as_str().unwrap());
    assert!(kept.join("work.bundle").exists());
    eventually("it is gone", || (!kept.exists()).then_some(()));
    server.stop();
    lab.assert_tidy();
}

/// A pod that goes hands its jobs back with their files and conversations: another pod goes on, and begins nothing anew.
#[test]
fn a_job_that_was_handed_back_goes_on_on_another_pod() {
    let Some(fleet) = Fleet::new() else { return };
    let (started, gate) = (fleet.lab.path("started"), fleet.lab.path("gate"));
    let first = fleet.pod("first");
    // What it does the first time, and what it finds and does the second time.
    let task = format!(
        "[[bash test -e new.txt || {{ echo c > committed.txt; git add -A; git commit -qm mine; echo u > new.txt; \
         echo 1 >> {0}; }}]] [[bash git log --format=%s -1; git status --short]] [[wait-for {1}]] [[dump {2}]] \
         [[bash echo second >> new.txt]] [[say done]]",
        started.display(),
        gate.display(),
        fleet.lab.path("dump").display()
    );
    let id = first.submit(fleet.job(task));
    eventually("it works", || started.exists().then_some(()));
    let session = eventually("it has a session", || first.job(&id)["session_id"].as_str().map(str::to_owned));
    let second = fleet.pod("second");
    first.stop();
    let job = eventually("it goes on", || {
        Some(second.job(&id)).filter(|job| job["status"] == "running" && !job["worktree_path"].is_null())
    });
    assert_eq!(job["attempt"], 2, "{job:#}");
    std::fs::write(&gate, "").unwrap();
    let job = second.wait(&id);
    assert_eq!((&job["status"], &job["pod_name"], &job["deaths"]), (&json!("succeeded"), &json!("second"), &json!(0)));
    let branch = job["branch"].as_str().unwrap();
    assert_eq!(fleet.repo.file(branch, "new.txt").as_deref(), Some("u\nsecond"), "{job:#}");
    assert_eq!(fleet.repo.file(branch, "committed.txt").as_deref(), Some("c"));
    assert!(fleet.repo.git(&["log", "--format=%s", branch]).unwrap().lines().any(|line| line == "mine"));
    assert_eq!(std::fs::read_to_string(&started).unwrap().lines().count(), 1, "nothing was begun anew");
    let dump: Value = serde_json::from_slice(&std::fs::read(fleet.lab.path("dump")).unwrap()).unwrap();
    assert!(dump["arguments"].to_string().contains(&format!("\"--resume\",\"{session}\"")), "{dump:#}");
    assert!(dump["prompt"].as_str().unwrap().starts_with("You were interrupted"), "{dump:#}");
    assert!(!fleet.lab.path(&format!("shared/job-state/kept/{id}")).exists(), "it is published");
    second.stop();
}

/// The agent had ended, and its pod went before it was published.
#[test]
fn work_that_was_not_published_yet_is_published_by_another_pod() {
    let Some(fleet) = Fleet::new() else { return };
    let (count, gate) = (fleet.lab.path("count"), fleet.lab.path("gate"));
    let first = fleet.pod("first");
    let task = format!("[[count {}]] [[write a.txt x]] [[wait-for {}]]", count.display(), gate.display());
    let id = first.submit(fleet.job(task));
    eventually("it works", || count.exists().then_some(()));
    // Whoever wants to commit waits for the repository's lock.
    let mut caches = std::fs::read_dir(fleet.lab.path("shared/repos")).unwrap().flatten();
    let key = caches.find(|entry| entry.path().join("repo").is_dir()).unwrap().file_name();
    let lock = format!("agenticore:lock:clone:{}", key.to_string_lossy());
    eventually("it is free", || fleet.redis.ask::<Option<String>>(&["GET", &lock]).is_none().then_some(()));
    fleet.redis.ask::<()>(&["SET", &lock, "somebody"]);
    std::fs::write(&gate, "").unwrap();
    eventually("its agent has ended", || (!first.job(&id)["exit_code"].is_null()).then_some(()));
    first.stop();
    fleet.redis.ask::<i64>(&["DEL", &lock]);
    let second = fleet.pod("second");
    let job = second.wait(&id);
    assert_eq!((&job["status"], &job["pod_name"]), (&json!("succeeded"), &json!("second")), "{job:#}");
    assert_eq!(fleet.repo.file(job["branch"].as_str().unwrap(), "a.txt").as_deref(), Some("x"));
    assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 1);
    second.stop();
}

#[test]
fn a_session_that_is_resumed_begins_with_the_kept_files() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let failed = server.run(json!({"task": format!("{WORK} [[error no]]"), "repo_url": repo.url()}));
    let session = failed["session_id"].as_str().unwrap();
    // The remote moves on meanwhile.
    repo.commit("main", &[("later.txt", "1")]);
    let job = server.run(json!({
        "task": "[[bash cat new.txt >> seen.txt; git log -1 --format=%s >> seen.txt]]",
        "repo_url": repo.url(), "session_id": session
    }));
    let branch = job["branch"].as_str().unwrap_or_else(|| panic!("{job:#}"));
    assert_eq!(repo.file(branch, "seen.txt").as_deref(), Some("u\nmine"), "{job:#}");
    assert_eq!(repo.file(branch, "new.txt").as_deref(), Some("u"));
    assert_eq!(repo.file(branch, "README.md"), None, "it was removed");
    assert_eq!(job["base_commit"], failed["base_commit"]);
    // For another repository it is the conversation alone.
    let other = crate::support::Repo::with_commit(&lab.path("other.git"));
    let job = server.run(json!({"task": "[[bash ls > seen.txt]]", "repo_url": other.url(), "session_id": session}));
    let seen = other.file(job["branch"].as_str().unwrap(), "seen.txt").unwrap_or_else(|| panic!("{job:#}"));
    assert!(!seen.contains("new.txt"), "{seen}");
    let note = job["note"].as_str().unwrap();
    assert!(
        note.contains(&format!("worked in {}; a job with that as repo_url (--repo) and base_ref", repo.url())),
        "{note}"
    );
    server.stop();
}

#[test]
fn a_session_that_is_resumed_without_its_files_says_where_they_are() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let note = |body: Value| server.run(body)["note"].as_str().unwrap_or_default().to_owned();
    let pushed = || server.run(json!({"task": "[[write a.txt 1]]", "repo_url": repo.url()}));
    let job = pushed();
    let (session, branch) = (job["session_id"].as_str().unwrap(), job["branch"].as_str().unwrap());
    let on_branch = format!("left them on the branch {branch}; give base_ref (--base-ref) {branch} for them");
    // Each time anew: a job that ran has the conversation, one that did not has nothing of it.
    for _ in 0..2 {
        let never_ran = json!({"task": "t", "repo_url": repo.url(), "session_id": session, "base_ref": "no-such"});
        assert_eq!(server.run(never_ran)["status"], "failed");
        let said = note(json!({"task": "t", "repo_url": repo.url(), "session_id": session}));
        assert!(said.contains(&on_branch), "{said}");
    }
    let said = note(json!({"task": "t", "session_id": session}));
    let both = format!("with that as repo_url (--repo) and base_ref (--base-ref) {branch} begins with them");
    assert!(said.contains(&both), "{said}");
    let job = server.run(json!({"task": "[[bash cat a.txt > b.txt]]", "repo_url": repo.url(), "session_id": session, "base_ref": branch}));
    assert!(!job["note"].as_str().unwrap_or_default().contains("without its files"), "{job:#}");
    assert_eq!(repo.file(job["branch"].as_str().unwrap(), "b.txt").as_deref(), Some("1"));
    let bare = server.run(json!({"task": "[[write here.txt 1]]"}));
    let said = note(json!({"task": "t", "session_id": bare["session_id"]}));
    let directory = lab.path("tmp/agenticore-jobs").join(bare["id"].as_str().unwrap());
    assert!(said.contains(&format!("left them in {}", directory.display())), "{said}");
    let silent = server.run(json!({"task": "t"}));
    assert_eq!(note(json!({"task": "t", "session_id": silent["session_id"]})), "");
    server.stop();
}

/// What a note advises works, whatever came in between.
#[test]
fn the_kept_files_of_a_conversation_are_found_behind_jobs_that_had_none() {
    let lab = Lab::new();
    let repo = lab.repo();
    let other = crate::support::Repo::with_commit(&lab.path("other.git"));
    let server = lab.serve();
    let failed = server.run(json!({"task": "[[write f.txt 1]] [[error no]]", "repo_url": repo.url()}));
    let session = failed["session_id"].as_str().unwrap();
    for between in [
        json!({"task": "t", "session_id": session}),
        json!({"task": "t", "session_id": session, "repo_url": other.url()}),
        json!({"task": "t", "session_id": session, "repo_url": repo.url(), "base_ref": "no-such"}),
    ] {
        server.run(between);
    }
    let job = server.run(json!({"task": "[[bash cat f.txt > g.txt]]", "repo_url": repo.url(), "session_id": session}));
    assert_eq!(repo.file(job["branch"].as_str().unwrap(), "g.txt").as_deref(), Some("1"), "{job:#}");
    server.stop();
}

#[test]
fn a_local_run_goes_on_with_the_files_of_an_earlier_one() {
    let lab = Lab::new();
    let repo = lab.repo();
    let run = |words: &[&str]| -> Value {
        let done = lab.run(&[&["run", "--local", "--json", "--repo", &repo.url()], words].concat());
        serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"))
    };
    let failed = run(&["[[write f.txt 1]] [[error no]]"]);
    assert_eq!(failed["status"], "failed", "{failed:#}");
    let job = run(&["[[bash cat f.txt > g.txt]]", "--session-id", failed["session_id"].as_str().unwrap()]);
    assert_eq!(repo.file(job["branch"].as_str().unwrap(), "g.txt").as_deref(), Some("1"), "{job:#}");
}

/// P9: a job at its account's limit goes back with its files and its conversation.
#[test]
fn an_agent_at_its_limit_goes_on_where_it_was() {
    let lab = Lab::new();
    let repo = lab.repo();
    let (lifted, count) = (lab.path("lifted"), lab.path("count"));
    let server = lab.serve();
    let task = format!(
        "[[bash test -e half.txt || {{ echo half > half.txt; echo 1 >> {0}; }}]] [[limited {1} 4]] \
         [[bash echo whole >> half.txt]] [[say done]]",
        count.display(),
        lifted.display()
    );
    let id = server.submit(json!({"task": task, "repo_url": repo.url()}));
    eventually("it waits", || {
        let job = server.job(&id);
        (job["status"] == "queued" && job["attempt"].as_u64() >= Some(1)).then_some(())
    });
    std::fs::write(&lifted, "").unwrap();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["deaths"]), (&json!("succeeded"), &json!(0)), "{job:#}");
    assert_eq!(repo.file(job["branch"].as_str().unwrap(), "half.txt").as_deref(), Some("half\nwhole"), "{job:#}");
    assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 1);
    server.stop();
    lab.assert_tidy();
}

/// The agent pushes half of its work, and its pod goes.
#[test]
fn what_an_agent_pushed_half_way_is_not_taken_for_the_whole() {
    let Some(fleet) = Fleet::new() else { return };
    let bare = fleet.repo.path.display().to_string();
    let (started, gate) = (fleet.lab.path("started"), fleet.lab.path("gate"));
    let first = fleet.pod("first");
    let task = format!(
        "[[bash test -e half.txt || {{ echo 1 > half.txt; git add -A; git commit -qm half; git push -q {bare} HEAD; }}; \
         echo 1 >> {}]] [[wait-for {}]] [[bash echo rest > rest.txt]]",
        started.display(),
        gate.display()
    );
    let id = first.submit(fleet.job(task));
    eventually("half of it is pushed", || started.exists().then_some(()));
    let second = fleet.pod("second");
    first.stop();
    std::fs::write(&gate, "").unwrap();
    let job = second.wait(&id);
    assert_eq!((&job["status"], &job["error"]), (&json!("succeeded"), &json!(null)), "{job:#}");
    let branch = job["branch"].as_str().unwrap();
    assert_eq!(fleet.repo.file(branch, "half.txt").as_deref(), Some("1"), "{job:#}");
    assert_eq!(fleet.repo.file(branch, "rest.txt").as_deref(), Some("rest"), "{job:#}");
    second.stop();
}

/// Hands a job back that did `habit`, and lets the next server go on with `then`; the job as it was in between, and as
/// it ended.
fn handed_back(lab: &Lab, repo: &crate::support::Repo, habit: &str, then: &str) -> (Value, Value) {
    let mark = lab.path(&format!("mark-{}", uuid::Uuid::new_v4().simple()));
    let (began, gate) = (mark.with_extension("began"), mark.with_extension("gate"));
    let task = format!(
        "[[bash test -e {0} || {{ {habit}; }}; echo 1 >> {0}]] [[wait-for {1}]] [[bash {then}]] [[say done]]",
        began.display(),
        gate.display()
    );
    let server = lab.serve();
    let id = server.submit(json!({"task": task, "repo_url": repo.url()}));
    eventually("it works", || began.exists().then_some(()));
    eventually("it has a session", || server.job(&id)["session_id"].as_str().map(drop));
    server.stop();
    let server = lab.serve();
    let between = eventually("it runs again", || Some(server.job(&id)).filter(|job| job["attempt"] == 2));
    std::fs::write(&gate, "").unwrap();
    let ended = server.wait(&id);
    let ended = if ended["kept"].is_null() { server.job(&id) } else { ended };
    server.stop();
    (between, ended)
}

#[test]
fn branches_and_stashes_are_there_again_after_a_hand_back() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.commit("main", &[("a.txt", "1")]);
    // Commits on the job's own branch, with HEAD elsewhere.
    let own = "echo 1 > n; git add n; git commit -qm own-work";
    for elsewhere in [
        "git switch -qc x HEAD~; echo 2 > m; git add m; git commit -qm on-x",
        "git switch -qc agenticore-fix HEAD~; echo 2 > m; git add m; git commit -qm on-fix",
        "git switch -q --detach HEAD~; echo 2 > m",
    ] {
        let then = "git log --all --format=%s > seen; cat m >> seen";
        let (_, job) = handed_back(&lab, &repo, &format!("{own}; {elsewhere}"), then);
        let seen = repo.file(job["branch"].as_str().unwrap(), "seen").unwrap_or_default();
        assert!(seen.contains("own-work") && seen.ends_with('2'), "{elsewhere}: {seen} {job:#}");
        assert!(job["kept_because"].as_str().unwrap_or_default().contains("another branch"), "{job:#}");
    }
    let (_, job) = handed_back(&lab, &repo, "echo s > a.txt; git stash -q; echo z > z", "git stash list > seen");
    let seen = repo.file(job["branch"].as_str().unwrap(), "seen").unwrap_or_default();
    assert!(seen.contains("stash@{0}") && job["kept_because"].is_string(), "{seen} {job:#}");
}

/// On the same disk it goes on in the worktree itself, with all that no bundle holds.
#[test]
fn work_that_could_not_be_saved_whole_stays_and_is_gone_on_in() {
    let lab = Lab::new().with("AGENTICORE_KEPT_LIMIT", "1");
    let repo = lab.repo();
    repo.commit("feat", &[("f.txt", "1")]);
    for (habit, lost, there) in [
        (
            "echo c > c; git add c; git commit -qm c; head -c 3000000 /dev/urandom > big",
            "AGENTICORE_KEPT_LIMIT is 1 MiB",
            "big",
        ),
        ("mkdir q; cd q; git init -q; echo q > q; git add q; git commit -qm q; cd ..", "repository of its own", "q"),
        ("git merge -q --no-commit --no-ff origin/feat", "did not finish a merge", "f.txt"),
    ] {
        let dump = lab.path("dump");
        let (_, job) = handed_back(&lab, &repo, habit, &format!("ls > {}", dump.display()));
        let listed = std::fs::read_to_string(&dump).unwrap();
        assert!(listed.contains(there) && listed.contains("README.md"), "{habit}: {listed}");
        let events = crate::support::events(&lab, job["id"].as_str().unwrap());
        let told = events.iter().find(|event| event["kind"] == "handed_back").unwrap();
        let told = told["text"].as_str().unwrap();
        assert!(told.contains(lost) && told.contains("the worktree stays"), "{habit}: {told}");
    }
}

/// Elsewhere it begins anew, because its conversation would tell of files that are not there. What the first attempt had
/// done stays, on its disk and in the bundle, until the job is forgotten.
#[test]
fn what_another_pod_does_anew_removes_nothing_of_what_could_not_be_saved() {
    let Some(fleet) = Fleet::new() else { return };
    let began = fleet.lab.path("began");
    let first = fleet.pod("first");
    let own = "mkdir q; cd q; git init -q; echo q > q; git add q; git commit -qm q; cd ..";
    let task = format!(
        "[[bash if test -e {0}; then echo 2 > second.txt; else echo c > c.txt; git add -A; git commit -qm c; {own}; fi]] \
         [[count {0}]] [[bash test -e second.txt || sleep 600]]",
        began.display()
    );
    let id = first.submit(fleet.job(task));
    eventually("it works", || began.exists().then_some(()));
    eventually("it has a session", || first.job(&id)["session_id"].as_str().map(drop));
    first.stop();
    let theirs = fleet.disk_of("first").join("worktrees").join(&id);
    assert!(theirs.join("q/q").exists() && theirs.join("c.txt").exists(), "the worktree stays");
    let second = fleet.pod("second");
    let job = second.wait(&id);
    assert_eq!((&job["status"], &job["pod_name"]), (&json!("succeeded"), &json!("second")), "{job:#}");
    assert_eq!(fleet.repo.file(job["branch"].as_str().unwrap(), "second.txt").as_deref(), Some("2"));
    let job = second.job(&id);
    let clone = fetched(&fleet.lab, &fleet.repo.url(), &job);
    assert_eq!(git(&clone, &["show", "refs/kept/head:c.txt"]).as_deref(), Ok("c"), "{job:#}");
    // Its own pod comes back, and leaves it alone. It is a repository that git can use.
    let first = fleet.pod("first");
    let probe = first.run(fleet.job("[[say a sweep or two]]"));
    assert_eq!(probe["status"], "succeeded");
    assert!(theirs.join("q/q").exists(), "still there");
    let mut jobs = std::fs::read_dir(fleet.lab.path("shared/repos")).unwrap().flatten().map(|e| e.path().join("jobs"));
    let jobs = jobs.find(|jobs| jobs.is_dir()).unwrap();
    let aside = jobs.join(format!("{id}.earlier-1/git"));
    assert_eq!(git(&aside, &["log", "--format=%s", "-1", "HEAD"]).as_deref(), Ok("c"), "{}", aside.display());
    first.stop();
    second.stop();
}

/// A job without a repository works in a directory of its own, which stays as long as the record.
#[test]
fn a_job_without_a_repository_goes_on_with_its_files() {
    let lab = Lab::new();
    let began = lab.path("began");
    let dump = lab.path("dump");
    let server = lab.serve();
    let task = format!(
        "[[bash test -e a.txt && cat a.txt > {1} || echo first > a.txt]] [[count {0}]] \
         [[bash test -e {1} || sleep 600]] [[say done]]",
        began.display(),
        dump.display()
    );
    let id = server.submit(json!({ "task": task }));
    eventually("it works", || began.exists().then_some(()));
    eventually("it has a session", || server.job(&id)["session_id"].as_str().map(drop));
    server.stop();
    let server = lab.serve();
    let job = server.wait(&id);
    assert_eq!(job["status"], "succeeded", "{job:#}");
    assert_eq!(std::fs::read_to_string(&dump).unwrap(), "first\n");
    assert!(server.job(&id)["kept"].is_null());
    server.stop();
}

#[test]
fn an_attempt_that_fails_before_it_begins_keeps_what_was_saved() {
    let lab = Lab::new();
    let repo = lab.repo();
    let profile = lab.profile("mine", "auto_pr: true\n");
    let began = lab.path("began");
    let server = lab.serve();
    let task = format!("{WORK} [[count {}]] [[sleep 600000]]", began.display());
    let id = server.submit(json!({"task": task, "repo_url": repo.url(), "profile": "mine"}));
    eventually("it works", || began.exists().then_some(()));
    eventually("it has a session", || server.job(&id)["session_id"].as_str().map(drop));
    server.stop();
    std::fs::write(profile.join("profile.yml"), ": [").unwrap();
    let server = lab.serve();
    let ended = server.wait(&id);
    assert_eq!(ended["status"], "failed", "{ended:#}");
    let job = server.job(&id);
    assert_work(&fetched(&lab, &repo.url(), &job), &job);
    server.stop();
}

/// A pod that goes before its agent begins has nothing to save, and takes nothing of an earlier attempt's with it. What
/// was moved aside goes with the job, whichever pod forgets it.
#[test]
fn what_an_attempt_did_not_come_to_stays_and_goes_with_the_job_alone() {
    let Some(fleet) = Fleet::new() else { return };
    let settings = [("AGENTICORE_KEPT_LIMIT", "1"), ("AGENTICORE_JOB_TTL", "40")];
    let began = fleet.lab.path("began");
    let first = fleet.pod_with("first", &settings);
    let task = format!(
        "[[bash test -e {0} || {{ head -c 3000000 /dev/urandom > big; git add -A; git commit -qm big; }}]] [[count {0}]] \
         [[bash test $(cat {0} | wc -l) -gt 1 || sleep 600]] [[say done]]",
        began.display()
    );
    let id = first.submit(fleet.job(task));
    eventually("it works", || began.exists().then_some(()));
    eventually("it has a session", || first.job(&id)["session_id"].as_str().map(drop));
    first.stop();
    let on_first = fleet.disk_of("first").join("worktrees");
    assert!(on_first.join(&id).join("big").exists());
    // Another pod takes it, and waits for the repository's lock until it goes.
    let mut caches = std::fs::read_dir(fleet.lab.path("shared/repos")).unwrap().flatten();
    let cache = caches.find(|entry| entry.path().join("repo").is_dir()).unwrap();
    let lock = format!("agenticore:lock:clone:{}", cache.file_name().to_string_lossy());
    fleet.redis.ask::<()>(&["SET", &lock, "somebody"]);
    let second = fleet.pod_with("second", &settings);
    eventually("it has it", || (second.job(&id)["attempt"] == 2).then_some(()));
    eventually("it waits for the lock", || (second.job(&id)["status"] == "running").then_some(()));
    second.stop();
    fleet.redis.ask::<i64>(&["DEL", &lock]);
    assert!(cache.path().join("jobs").join(&id).join("git").is_dir(), "the repository of the first attempt stays");
    // Its own pod goes on in it.
    let first = fleet.pod_with("first", &settings);
    let job = first.wait(&id);
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let branch = job["branch"].as_str().unwrap();
    assert!(fleet.repo.git(&["log", "--format=%s", branch]).unwrap().lines().any(|line| line == "big"), "{job:#}");
    assert!(!on_first.join(&id).exists() && !on_first.join(format!(".unsaved-{id}")).exists());

    // Moved aside on its disk, and forgotten by another pod.
    std::fs::remove_file(&began).unwrap();
    let own = "mkdir q; cd q; git init -q; echo q > q; git add q; git commit -qm q; cd ..";
    let task = format!(
        "[[bash test -e {0} || {{ {own}; }}]] [[count {0}]] [[bash test $(cat {0} | wc -l) -gt 1 || sleep 600]] [[say done]]",
        began.display()
    );
    let id = first.submit(fleet.job(task));
    eventually("it works", || began.exists().then_some(()));
    eventually("it has a session", || first.job(&id)["session_id"].as_str().map(drop));
    first.stop();
    let second = fleet.pod_with("second", &settings);
    assert_eq!(second.wait(&id)["status"], "succeeded");
    assert!(on_first.join(&id).join("q").exists());
    eventually("it is forgotten", || (second.get(&format!("/jobs/{id}")).0 == 404).then_some(()));
    let first = fleet.pod_with("first", &settings);
    eventually("its own pod removes it", || (!on_first.join(&id).exists()).then_some(()));
    let left = |path: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains(&id)).collect()
    };
    eventually("nothing is left", || left(&on_first).is_empty().then_some(()));
    assert_eq!(left(&cache.path().join("jobs")), Vec::<String>::new());
    assert_eq!(left(&fleet.lab.path("shared/job-state/kept")), Vec::<String>::new());
    first.stop();
    second.stop();
}
