//! Git LFS: a job begins with the contents, and what it makes is on the server before its branch names it.
//!
//! The real git-lfs, against an LFS server that is a stand-in.

use crate::support::lfs::{Fault, pointer};
use crate::support::repo::git;
use crate::support::{GitHub, Lab, Repo, Server, kinds};
use serde_json::{Value, json};
use std::path::Path;

const ATTRIBUTES: &str = "*.bin filter=lfs diff=lfs merge=lfs -text\n";

struct House {
    lab: Lab,
    github: GitHub,
    repo: Repo,
    server: Server,
}

impl House {
    fn new(settings: &[(&str, &str)]) -> Self {
        let mut lab = Lab::new();
        let github = GitHub::start(&lab.path("github"));
        lab = lab.with_all(github.variables_with_token());
        for (name, value) in settings {
            lab = lab.with(name, *value);
        }
        let repo = github.repository("acme/widgets");
        github.lfs().add(b"the old content");
        let old = pointer(b"the old content");
        repo.commit("main", &[(".gitattributes", ATTRIBUTES), ("old.bin", &old), ("deep/down/old.bin", &old)]);
        let server = lab.serve();
        Self { lab, github, repo, server }
    }

    fn run(&self, habit: &str) -> Value {
        let url = self.github.repo_url("acme/widgets");
        self.server.run(json!({"task": format!("[[bash {habit}]] [[say done]]"), "repo_url": url}))
    }

    fn said(&self, job: &Value) -> String {
        let events = crate::support::events(&self.lab, job["id"].as_str().unwrap());
        events.iter().map(|event| event["text"].as_str().unwrap_or_default().to_owned() + "\n").collect()
    }

    fn requests(&self, of: &str) -> usize {
        self.github.lfs().requests.lock().unwrap().iter().filter(|request| request.starts_with(of)).count()
    }

    fn published(&self, job: &Value, path: &str) -> Option<String> {
        self.repo.file(job["branch"].as_str().unwrap(), path)
    }

    fn has(&self, content: &[u8]) -> bool {
        self.github.lfs().contents.lock().unwrap().values().any(|known| known == content)
    }

    fn end(self) {
        self.server.stop();
        self.github.assert_content();
        self.lab.assert_no_process();
    }
}

fn assert_published(job: &Value) {
    assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{job:#}");
    assert_eq!((&job["kept_because"], &job["worktree_path"]), (&json!(null), &json!(null)), "{job:#}");
}

#[test]
fn a_job_begins_with_the_contents_and_a_second_one_asks_for_none() {
    let house = House::new(&[]);
    let looks = "cat old.bin deep/down/old.bin; git status --porcelain; git lfs ls-files; echo 1 > one.txt";
    let job = house.run(looks);
    assert_published(&job);
    let said = house.said(&job);
    assert!(said.contains("the old contentthe old content"), "{said}");
    assert!(!said.contains(" M ") && said.contains("* deep/down/old.bin"), "{said}");
    assert_eq!(house.published(&job, "one.txt").as_deref(), Some("1"));
    assert_eq!(house.repo.git(&["diff", "--name-only", "main", job["branch"].as_str().unwrap()]).unwrap(), "one.txt");
    assert_eq!(house.requests("GET"), 1);
    let asked = house.requests("");
    let job = house.run("cat old.bin; touch old.bin; echo 2 > two.txt");
    assert_published(&job);
    assert!(house.said(&job).contains("the old content"));
    assert_eq!(house.requests(""), asked, "the second job asked the server again");
    // Nothing changed is nothing changed, also when the files were written again.
    let job = house.run("cp old.bin x; rm old.bin; mv x old.bin; git checkout -q -- deep");
    assert_eq!(job["note"], "the agent changed nothing: no branch, no pull request", "{job:#}");
    house.end();
}

#[test]
fn what_an_agent_makes_is_uploaded_before_its_branch_names_it() {
    let house = House::new(&[]);
    // Not committed; committed; committed twice, of which the first is in the history alone; moved; deleted.
    let job = house.run(
        "printf new-one > new.bin; printf v1 > twice.bin; git add twice.bin; git commit -qm v1; printf v2 > twice.bin; \
         git add twice.bin; git commit -qm v2; git mv old.bin moved.bin; rm deep/down/old.bin",
    );
    assert_published(&job);
    for content in ["new-one", "v1", "v2"] {
        assert!(house.has(content.as_bytes()), "{content}");
    }
    assert_eq!(house.published(&job, "new.bin").as_deref(), Some(pointer(b"new-one").trim_end()));
    assert_eq!(house.published(&job, "twice.bin").as_deref(), Some(pointer(b"v2").trim_end()));
    assert_eq!(house.published(&job, "moved.bin").as_deref(), Some(pointer(b"the old content").trim_end()));
    assert_eq!(house.published(&job, "deep/down/old.bin"), None);
    // As anybody's clone has it.
    let clone = house.lab.path("clone");
    let url = house.repo.url();
    let branch = job["branch"].as_str().unwrap();
    git(&house.lab.path("."), &["clone", "-q", "-b", branch, &url, clone.to_str().unwrap()]).unwrap();
    assert_eq!(std::fs::read_to_string(clone.join("new.bin")).unwrap(), pointer(b"new-one"));
    // A job that goes on from there needs no request: the content is in the cache.
    let asked = house.requests("");
    let url = house.github.repo_url("acme/widgets");
    let next =
        house.server.run(json!({"task": "[[bash cat new.bin > seen.txt]]", "repo_url": url, "base_ref": branch}));
    assert_published(&next);
    assert_eq!(house.published(&next, "seen.txt").as_deref(), Some("new-one"));
    assert_eq!(house.requests(""), asked);
    house.end();
}

#[test]
fn a_repository_that_begins_to_use_lfs() {
    let house = House::new(&[]);
    house.repo.git(&["update-ref", "refs/heads/main", "main~1"]).unwrap();
    assert_eq!(house.repo.file("main", "old.bin"), None);
    let job = house.run(
        "git lfs install --local > /dev/null; git lfs track \"*.dat\" > /dev/null; printf first > first.dat; \
         git add .; git commit -qm data; printf second > second.dat",
    );
    assert_published(&job);
    assert!(house.has(b"first") && house.has(b"second"));
    house.end();
}

#[test]
fn a_failed_upload_publishes_nothing() {
    let house = House::new(&[("AGENTICORE_PUBLISH_BACKOFF", "10ms"), ("AGENTICORE_PUBLISH_TRIES", "2")]);
    // The last is what git-lfs takes for success, and nothing is stored.
    for fault in [Fault::Status(403), Fault::Status(500), Fault::Batch(401), Fault::Batch(503), Fault::Status(422)] {
        *house.github.lfs().fault.lock().unwrap() = Some(fault);
        let job = house.run("printf precious > new.bin; git add .; git commit -qm new");
        let error = job["error"].as_str().unwrap_or_default();
        assert!(error.contains("Git LFS"), "{job:#}");
        assert_eq!(job["pushed"], json!(false), "{job:#}");
        let kept = Path::new(job["worktree_path"].as_str().unwrap());
        assert_eq!(std::fs::read_to_string(kept.join("new.bin")).unwrap(), "precious");
        *house.github.lfs().fault.lock().unwrap() = None;
    }
    assert_eq!(house.repo.branches(), ["main"]);
    assert!(!house.has(b"precious"));
    house.end();
}

#[test]
fn what_is_uploaded_is_the_file_and_nothing_else() {
    let house = House::new(&[]);
    let secret = house.lab.path("secret");
    std::fs::write(&secret, "another job's content").unwrap();
    let oid = crate::support::lfs::oid(b"another job's content");
    let store = format!("$(git rev-parse --git-dir)/lfs/objects/{}/{}", &oid[..2], &oid[2..4]);
    let pointer = pointer(b"another job's content").replace('\n', "\\n");
    for (habit, why) in [
        // Its content is nowhere.
        (
            format!("printf \"{pointer}\" > p.bin; git add p.bin; git commit -qm p"),
            "is not in the worktree's repository",
        ),
        // A link to somebody else's file.
        (
            format!(
                "mkdir -p {store}; ln -s {} {store}/{oid}; printf \"{pointer}\" > p.bin; git add p.bin; git commit -qm p",
                secret.display()
            ),
            "is not in the worktree's repository",
        ),
        // Something else under its name.
        (
            format!(
                "mkdir -p {store}; printf \"another job's c0ntent\" > {store}/{oid}; printf \"{pointer}\" > p.bin; \
                 git add p.bin; git commit -qm p"
            ),
            "is another one",
        ),
    ] {
        let job = house.run(&habit);
        assert!(job["error"].as_str().unwrap_or_default().contains(why), "{habit}: {job:#}");
        assert_eq!((&job["pushed"], job["worktree_path"].is_string()), (&json!(false), true), "{job:#}");
    }
    assert!(!house.has(b"another job's content"));
    house.end();
}

#[test]
fn an_agent_does_not_change_what_another_job_begins_with() {
    let house = House::new(&[]);
    let job = house.run(
        "git checkout -q -- .; for f in $(find $(git rev-parse --git-dir)/lfs/objects -type f); do echo forged > $f; \
         done; printf forged > old.bin; git lfs prune; git lfs uninstall --local; rm -rf $(git rev-parse --git-dir)/lfs",
    );
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let job = house.run("cat old.bin > seen.txt");
    assert_published(&job);
    assert_eq!(house.published(&job, "seen.txt").as_deref(), Some("the old content"));
    house.end();
}

#[test]
fn contents_that_cannot_be_had() {
    let house = House::new(&[]);
    // The server lost one of them.
    house.repo.commit("main", &[("lost.bin", &pointer(b"lost"))]);
    let job = house.run("cat old.bin lost.bin; echo 1 > one.txt");
    assert_published(&job);
    let said = house.said(&job);
    assert!(said.contains("the old content") && said.contains("because the server has no content of them"), "{said}");
    assert_eq!(house.repo.git(&["diff", "--name-only", "main", job["branch"].as_str().unwrap()]).unwrap(), "one.txt");
    // It refuses the login, or is broken.
    house.repo.commit("main", &[("old.bin", &pointer(b"not in the cache"))]);
    for status in [401, 403, 503] {
        *house.github.lfs().fault.lock().unwrap() = Some(Fault::Batch(status));
        let job = house.run("true");
        assert_eq!(job["status"], "failed", "{job:#}");
        let error = job["error"].as_str().unwrap();
        assert!(error.contains("has Git LFS files") && error.contains("AGENTICORE_LFS=skip"), "{job:#}");
        assert!(!kinds(&house.lab, job["id"].as_str().unwrap()).contains(&"agent_started".to_owned()));
    }
    *house.github.lfs().fault.lock().unwrap() = None;
    // Another host is not asked.
    house.repo.commit("main", &[(".lfsconfig", "[lfs]\n\turl = http://lfs.example/x\n")]);
    let job = house.run("cat old.bin; echo 1 > one.txt");
    assert_published(&job);
    assert!(house.said(&job).contains("names a server on another host"), "{}", house.said(&job));
    house.end();
}

#[test]
fn without_git_lfs_pointers_stay_pointers() {
    let house = House::new(&[("AGENTICORE_LFS", "skip")]);
    let job = house.run("cat old.bin; echo 1 > one.txt");
    assert_published(&job);
    let said = house.said(&job);
    assert!(
        said.contains("Git LFS files are pointers: AGENTICORE_LFS is skip") && said.contains("oid sha256"),
        "{said}"
    );
    assert_eq!(house.requests(""), 0);
    // What the agent fetches itself is no work, and what it adds cannot be uploaded.
    let job =
        house.run("git lfs install --local > /dev/null; printf new > new.bin; git add new.bin; git commit -qm new");
    assert!(job["error"].as_str().unwrap_or_default().contains("`new.bin` is a new Git LFS file"), "{job:#}");
    assert_eq!(job["pushed"], json!(false));
    house.end();
}

#[test]
fn a_content_that_an_agent_made_and_another_changed_is_checked_again() {
    let house = House::new(&[]);
    let job = house.run("printf up > u.bin");
    assert_published(&job);
    house.repo.git(&["update-ref", "refs/heads/main", job["branch"].as_str().unwrap()]).unwrap();
    // Through whatever its own store shares with the cache's; of the same size.
    let job = house.run(
        "rm u.bin; git checkout -q u.bin; for f in $(find $(git rev-parse --git-dir)/lfs/objects -type f); do chmod u+w $f; \
         printf no > $f; done; git update-index --refresh",
    );
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let job = house.run("cat u.bin > seen.txt");
    assert_published(&job);
    assert_eq!(house.published(&job, "seen.txt").as_deref(), Some("up"));
    house.end();
}

#[test]
fn a_repository_on_this_machine_has_its_contents_beside_it() {
    let lab = Lab::new();
    let repo = lab.repo();
    let old = pointer(b"the old content");
    repo.commit("main", &[(".gitattributes", ATTRIBUTES), ("old.bin", &old), ("lost.bin", &pointer(b"lost"))]);
    let content = |oid: &str| repo.path.join("lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid);
    let path = content(&crate::support::lfs::oid(b"the old content"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "the old content").unwrap();
    let server = lab.serve();
    for url in [repo.url(), format!("file://{}", repo.url())] {
        let new = format!("new of {url}");
        let task = format!("[[bash cat old.bin > seen.txt; printf \"{new}\" > new.bin]]");
        let job = server.run(json!({"task": task, "repo_url": url}));
        assert_published(&job);
        let branch = job["branch"].as_str().unwrap();
        assert_eq!(repo.file(branch, "seen.txt").as_deref(), Some("the old content"));
        assert_eq!(repo.git(&["diff", "--name-only", "main", branch]).unwrap(), "new.bin\nseen.txt");
        let there = content(&crate::support::lfs::oid(new.as_bytes()));
        assert_eq!(std::fs::read_to_string(there).unwrap(), new);
    }
    server.stop();
    lab.assert_tidy();
}

#[test]
fn what_lfsconfig_leaves_out_is_said() {
    let house = House::new(&[]);
    house.repo.commit("main", &[(".lfsconfig", "[lfs]\n\tfetchexclude = deep\n")]);
    let job = house.run("cat old.bin; cat deep/down/old.bin; echo 1 > one.txt");
    assert_published(&job);
    let said = house.said(&job);
    assert!(said.contains("lfs.fetchexclude = deep") && said.contains("the old content"), "{said}");
    // One that git does not understand says nothing.
    house.repo.commit("main", &[(".lfsconfig", "[lfs\nurl = \n")]);
    let job = house.run("cat old.bin; echo 2 > two.txt");
    assert!(["succeeded", "failed"].contains(&job["status"].as_str().unwrap()), "{job:#}");
    assert!(!house.said(&job).contains("damaged"), "{}", house.said(&job));
    house.end();
}
