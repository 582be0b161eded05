//! Submodules: there at the recorded commits, from caches of their own; work in them is never lost and never published
//! by name alone.

use crate::support::repo::git;
use crate::support::{GitHub, Lab, Repo, Server};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

struct House {
    lab: Lab,
    github: GitHub,
    repo: Repo,
    server: Server,
}

impl House {
    /// A repository with a submodule on the same host, by a relative URL, which has one of its own.
    fn new(profile: &str) -> Self {
        let lab = Lab::new();
        let github = GitHub::start(&lab.path("github"));
        let lab = lab.with_all(github.variables_with_token());
        lab.profile("coding", profile);
        let inner = github.repository("acme/inner");
        inner.commit("main", &[("inner.txt", "inner")]);
        let library = github.repository("acme/library");
        library.commit("main", &[("library.txt", "library")]);
        add(&lab, &library, &[("deeper", "inner", "../inner.git", &inner)]);
        let repo = github.repository("acme/widgets");
        add(&lab, &repo, &[("vendor/library", "the \\\"library\\\"", "../library", &library)]);
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

    fn changed(&self, job: &Value) -> String {
        self.repo.git(&["diff", "--name-only", "main", job["branch"].as_str().unwrap()]).unwrap()
    }

    /// Nothing borrows from any cache either.
    fn end(self) {
        self.server.stop();
        self.github.assert_content();
        self.lab.assert_tidy();
    }
}

const PROFILE: &str = "auto_pr: true\n";

/// A commit on main with submodules: path, name, URL, and the repository that it is of.
fn add(lab: &Lab, repo: &Repo, submodules: &[(&str, &str, &str, &Repo)]) {
    let clone = lab.path("adds");
    let run = |arguments: &[&str]| git(&clone, arguments).unwrap();
    git(&lab.path("."), &["clone", "-q", &repo.url(), clone.to_str().unwrap()]).unwrap();
    let mut modules = String::new();
    for (path, name, url, of) in submodules {
        let commit = of.git(&["rev-parse", "main"]).unwrap();
        run(&["update-index", "--add", "--cacheinfo", &format!("160000,{},{path}", commit.trim())]);
        modules += &format!("[submodule \"{name}\"]\n\tpath = {path}\n\turl = {url}\n");
    }
    fs::write(clone.join(".gitmodules"), modules).unwrap();
    run(&["add", ".gitmodules"]);
    run(&["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "submodules"]);
    run(&["push", "-q", "origin", "HEAD:main"]);
    fs::remove_dir_all(clone).unwrap();
}

fn assert_published(job: &Value) {
    assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{job:#}");
    assert_eq!((&job["kept_because"], &job["worktree_path"]), (&json!(null), &json!(null)), "{job:#}");
}

#[test]
fn submodules_are_there_at_the_recorded_commits() {
    let house = House::new(PROFILE);
    let before = house.repo.git(&["ls-tree", "main", "vendor/"]).unwrap();
    // The submodule has moved on since.
    let library = Repo { path: house.lab.path("github/acme/library.git") };
    library.commit("main", &[("library.txt", "newer")]);
    let job = house.run(
        "cat vendor/library/library.txt; ls vendor/library/deeper; git submodule status; git -C vendor/library status; \
         git submodule foreach --quiet git log --oneline; git -C vendor/library rev-parse origin/main; echo 1 > one.txt",
    );
    assert_published(&job);
    let said = house.said(&job);
    assert!(said.contains("library") && !said.contains("newer") && !said.contains("inner.txt"), "{said}");
    assert!(said.contains("nothing to commit"), "{said}");
    assert_eq!(house.changed(&job), "one.txt");
    assert_eq!(house.repo.git(&["ls-tree", job["branch"].as_str().unwrap(), "vendor/"]).unwrap(), before);
    // From the cache: its remote may be gone.
    fs::rename(house.lab.path("github/acme/library.git"), house.lab.path("github/acme/moved.git")).unwrap();
    let job = house.run("cat vendor/library/library.txt > seen.txt");
    assert_published(&job);
    assert_eq!(house.repo.file(job["branch"].as_str().unwrap(), "seen.txt").as_deref(), Some("library"));
    house.end();
}

#[test]
fn the_profile_says_which() {
    let house = House::new("auto_pr: true\nsubmodules: recursive\n");
    let look = "cat vendor/library/library.txt vendor/library/deeper/inner.txt; git submodule foreach --recursive pwd";
    let job = house.run(look);
    let said = house.said(&job);
    assert!(said.contains("libraryinner") && said.contains("/vendor/library/deeper"), "{said}");
    assert_eq!(job["note"], "the agent changed nothing: no branch, no pull request", "{job:#}");
    house.end();
    let house = House::new("auto_pr: true\nsubmodules: false\n");
    let job = house.run("ls vendor/library; echo 1 > one.txt");
    assert_published(&job);
    assert!(!house.said(&job).contains("library.txt"));
    house.end();
}

#[test]
fn those_that_cannot_be_had_stay_empty_with_a_note() {
    let house = House::new(PROFILE);
    let inner = Repo { path: house.lab.path("github/acme/inner.git") };
    let host = house.github.url().split_once("://").unwrap().1.split(':').next().unwrap().to_owned();
    add(
        &house.lab,
        &house.repo,
        &[
            ("vendor/other", "other", "https://elsewhere.example/o/r", &inner),
            ("vendor/gone", "gone", "../gone.git", &inner),
            ("vendor/file", "file", "/etc", &inner),
            ("vendor/option", "option", "--upload-pack=false", &inner),
            // For developers with keys: the server has a token.
            ("vendor/ssh", "ssh", &format!("git@{host}:acme/inner.git"), &inner),
        ],
    );
    let job = house.run("cat vendor/ssh/inner.txt; echo 1 > one.txt");
    assert_published(&job);
    let said = house.said(&job);
    for words in
        ["vendor/other stays empty", "vendor/gone stays empty", "vendor/file stays empty", "vendor/option stays"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.contains("another host") && said.contains("\ninner"), "{said}");
    assert_eq!(house.changed(&job), "one.txt");
    house.end();
}

#[test]
fn work_in_a_submodule_keeps_the_worktree_and_is_not_published_by_name() {
    let house = House::new(PROFILE);
    let commit = "git -C vendor/library -c user.name=a -c user.email=a@b commit -qam inside";
    for habit in [
        "echo changed > vendor/library/library.txt".to_owned(),
        "echo new > vendor/library/new.txt".to_owned(),
        format!("echo changed > vendor/library/library.txt; {commit}"),
        format!("echo changed > vendor/library/library.txt; {commit}; git -C vendor/library checkout -q origin/main"),
        "echo changed > vendor/library/library.txt; git -C vendor/library stash -q".to_owned(),
        format!("echo changed > vendor/library/library.txt; {commit}; git submodule deinit -qf vendor/library"),
        format!("echo changed > vendor/library/library.txt; {commit}; git rm -qf vendor/library"),
        "rm vendor/library/.git; git init -q vendor/library; echo 1 > vendor/library/x".to_owned(),
    ] {
        let job = house.run(&format!("{habit}; echo 1 > one.txt"));
        assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{habit}: {job:#}");
        let why = job["kept_because"].as_str().unwrap_or_default();
        assert!(why.contains("worked in the submodule `vendor/library`"), "{habit}: {job:#}");
        assert!(Path::new(job["worktree_path"].as_str().unwrap()).is_dir());
        let changed = house.changed(&job);
        assert!(changed.contains("one.txt") && (!changed.contains("vendor") || habit.contains("rm -qf")), "{changed}");
    }
    house.server.stop();
}

#[test]
fn a_submodule_can_be_moved_to_another_commit_of_its_remote() {
    let house = House::new("auto_pr: true\ngithub_token: true\n");
    let library = Repo { path: house.lab.path("github/acme/library.git") };
    let newer = library.commit("main", &[("library.txt", "newer")]);
    let job = house.run("git submodule update -q --remote vendor/library; cat vendor/library/library.txt");
    assert_published(&job);
    assert_eq!(house.changed(&job), "vendor/library");
    let entry = house.repo.git(&["ls-tree", job["branch"].as_str().unwrap(), "vendor/library"]).unwrap();
    assert!(entry.contains(newer.trim()), "{entry}");
    house.end();
}

#[test]
fn files_in_the_place_of_a_submodule_and_a_submodule_in_that_of_files() {
    let house = House::new(PROFILE);
    let vendor = "cd vendor; cp -r library copy; git rm -qf library; mv copy library; rm -rf library/.git; cd ..";
    let library = house.github.repository("acme/other");
    library.commit("main", &[("docs.txt", "of other")]);
    house.repo.commit("docs", &[("docs/docs.txt", "mine"), ("docs/more.txt", "mine")]);
    let add = format!(
        "git checkout -q -B work origin/docs; git rm -rqf docs; git -c protocol.file.allow=always submodule --quiet add {} docs",
        library.url()
    );
    for (habit, changed) in [
        (
            format!("{vendor}; git add -A; git commit -qm vendored; echo z > a.txt"),
            "A\ta.txt\nD\tvendor/library\nA\tvendor/library/library.txt",
        ),
        (vendor.to_owned(), "D\tvendor/library\nA\tvendor/library/library.txt"),
        ("git rm -qf vendor/library; echo f > vendor/library".to_owned(), "T\tvendor/library"),
        (
            format!("{add}; git commit -qm added; echo z > a.txt"),
            "A\ta.txt\nA\tdocs\nD\tdocs/docs.txt\nD\tdocs/more.txt",
        ),
        (add.clone(), "A\tdocs\nD\tdocs/docs.txt\nD\tdocs/more.txt"),
    ] {
        let job = house.run(&habit);
        let branch = job["branch"].as_str().unwrap();
        let base = if habit.contains("origin/docs") { "docs" } else { "main" };
        let told = house.repo.git(&["diff", "--name-status", "--no-renames", base, branch]).unwrap();
        let told: Vec<&str> = told
            .lines()
            .filter(|line| ![".gitmodules", "library/deeper", "README"].iter().any(|part| line.contains(part)))
            .collect();
        assert_eq!(told.join("\n"), changed, "{habit}: {job:#}");
    }
    house.server.stop();
}
