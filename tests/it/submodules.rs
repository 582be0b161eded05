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

/// The submodule's remote has moved on, and so has a branch that names it.
fn with_bump(profile: &str) -> (House, String, String) {
    let house = House::new(profile);
    let library = Repo { path: house.lab.path("github/acme/library.git") };
    let old = library.git(&["rev-parse", "main"]).unwrap().trim().to_owned();
    library.commit("main", &[("between.txt", "1")]);
    let new = library.commit("main", &[("library.txt", "newer")]);
    let clone = house.lab.path("bump");
    git(&house.lab.path("."), &["clone", "-q", &house.repo.url(), clone.to_str().unwrap()]).unwrap();
    let link = format!("160000,{new},vendor/library");
    git(&clone, &["update-index", "--cacheinfo", &link]).unwrap();
    git(&clone, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "bump"]).unwrap();
    git(&clone, &["push", "-q", "origin", "HEAD:bump"]).unwrap();
    (house, old, new)
}

impl House {
    fn link(&self, job: &Value) -> Option<String> {
        let tree = self.repo.git(&["ls-tree", job["branch"].as_str().unwrap(), "vendor/"]).unwrap();
        tree.strip_prefix("160000 commit ").map(|rest| rest.split('\t').next().unwrap().to_owned())
    }
}

/// Git checks nothing out in a submodule when it merges a commit that moves it.
#[test]
fn a_submodule_that_a_merge_moved_is_not_moved_back() {
    let (house, _, new) = with_bump(PROFILE);
    for habit in [
        "git merge -q --no-edit origin/bump; echo z > a.txt".to_owned(),
        "echo y > y; git add y; git commit -qm y; git merge -q --no-edit origin/bump".to_owned(),
        "git switch -q bump; echo z > a.txt".to_owned(),
        "git cherry-pick origin/bump; echo z > a.txt".to_owned(),
        "git merge -q --no-commit --no-ff origin/bump; echo z > a.txt".to_owned(),
        "git merge -q --no-edit origin/bump; git submodule -q update; echo z > a.txt".to_owned(),
        format!("git update-index --cacheinfo 160000,{new},vendor/library; git commit -qm up; echo z > a.txt"),
        format!("git -C vendor/library checkout -q {new}; echo z > a.txt"),
    ] {
        let job = house.run(&habit);
        assert_eq!(job["pushed"], true, "{habit}: {job:#}");
        assert_eq!(house.link(&job).as_deref(), Some(new.as_str()), "{habit}: {job:#}");
        assert!(job["kept_because"].is_null(), "{habit}: {job:#}");
        if !habit.starts_with("echo y") {
            assert_eq!(house.repo.file(job["branch"].as_str().unwrap(), "a.txt").as_deref(), Some("z"), "{habit}");
        }
    }
    house.server.stop();
}

#[test]
fn what_was_staged_of_submodules_is_published_or_kept_and_said() {
    let (house, old, new) = with_bump(PROFILE);
    let drop = "git rm -q --cached vendor/library; git config -f .gitmodules --remove-section \
                'submodule.the \\\"library\\\"'; git add .gitmodules; echo z > a.txt";
    let job = house.run(drop);
    assert_eq!(house.link(&job), None, "{job:#}");
    let job = house.run("git rm -q --cached vendor/library; echo z > a.txt");
    assert_eq!(house.link(&job), None, "{job:#}");
    // What a commit of the agent's removed does not come back.
    let job = house.run("git rm -q --cached vendor/library; git commit -qm drop; echo z > a.txt");
    assert_eq!(house.link(&job), None, "{job:#}");
    assert_eq!(house.repo.file(job["branch"].as_str().unwrap(), "a.txt").as_deref(), Some("z"));
    // Staged, and nowhere on its remote.
    let nowhere = "1".repeat(40);
    let job = house.run(&format!("git update-index --cacheinfo 160000,{nowhere},vendor/library; echo z > a.txt"));
    assert_eq!(house.link(&job).as_deref(), Some(old.as_str()), "{job:#}");
    assert!(job["kept_because"].as_str().unwrap_or_default().contains("vendor/library"), "{job:#}");
    house.server.stop();
    // Without submodules nobody can say whether the commit is its remote's: it is kept, and said.
    let (house, old, new_here) = with_bump("auto_pr: true\nsubmodules: false\n");
    let _ = new;
    let job = house.run(&format!("git update-index --cacheinfo 160000,{new_here},vendor/library; echo z > a.txt"));
    assert!(
        house.link(&job) == Some(old) && job["kept_because"].as_str().unwrap().contains("vendor/library"),
        "{job:#}"
    );
    let job = house.run(&format!("git update-index --cacheinfo 160000,{new_here},vendor/library"));
    assert!(job["pushed"] == false && job["kept_because"].as_str().unwrap().contains("vendor/library"), "{job:#}");
    house.server.stop();
}

/// `ignore = all` in `.gitmodules` hides submodules from git's own comparisons.
#[test]
fn what_gitmodules_ignores_is_looked_at() {
    let house = House::new(PROFILE);
    let job = house.run(
        "git init -q q; cd q; echo q > q; git add q; git commit -qm q; cd ..; git -c protocol.file.allow=always \
         submodule --quiet add ./q; git config -f .gitmodules submodule.q.ignore all; echo z > a.txt",
    );
    assert!(job["kept_because"].as_str().unwrap_or_default().contains('q'), "{job:#}");
    let published = house.repo.git(&["ls-tree", "-r", job["branch"].as_str().unwrap()]).unwrap();
    assert!(!published.contains("\tq"), "{published}");
    let library = "vendor/library";
    let job = house.run(&format!(
        "git config -f .gitmodules 'submodule.the \\\"library\\\".ignore' all; git add .gitmodules; \
         git commit -qm ignore; cd {library}; echo w > w; git add w; git commit -qm w; cd ../..; git add {library}; \
         echo z > a.txt"
    ));
    let before = house.repo.git(&["ls-tree", "main", "vendor/"]).unwrap();
    assert_eq!(house.repo.git(&["ls-tree", job["branch"].as_str().unwrap(), "vendor/"]).unwrap(), before, "{job:#}");
    assert!(job["kept_because"].as_str().unwrap_or_default().contains(library), "{job:#}");
    house.server.stop();
}

#[test]
fn a_directory_that_became_a_repository_is_not_deleted() {
    let house = House::new(PROFILE);
    house.repo.commit("main", &[("d/one", "1"), ("d/two", "2"), ("keep", "1")]);
    for habit in [
        "cd d; git init -q; git add .; git commit -qm x; cd ..; git rm -rq --cached d; git add d; echo z > a.txt",
        "mv .gitmodules gm; ln -s gm .gitmodules; git init -q d; git -C d add .; git -C d commit -qm x; echo z > a.txt",
    ] {
        let job = house.run(habit);
        let branch = job["branch"].as_str().unwrap();
        assert_eq!(house.repo.file(branch, "d/one").as_deref(), Some("1"), "{habit}: {job:#}");
        assert_eq!(house.repo.file(branch, "a.txt").as_deref(), Some("z"), "{habit}: {job:#}");
        assert!(job["kept_because"].is_string(), "{habit}: {job:#}");
        let modules = house.repo.git(&["ls-tree", branch, ".gitmodules"]).unwrap();
        assert!(modules.starts_with("100644"), "{habit}: {modules}");
    }
    house.server.stop();
}

/// What lies there is from an earlier commit of the job's own.
#[test]
fn a_submodule_that_the_agent_moved_before_a_merge_is_not_moved_back() {
    let (house, old, new) = with_bump(PROFILE);
    let library = Repo { path: house.lab.path("github/acme/library.git") };
    let between = library.git(&["rev-parse", "main~1"]).unwrap().trim().to_owned();
    let move_it =
        format!("git -C vendor/library fetch -q; git -C vendor/library checkout -q {between}; git commit -qam two");
    for (habit, expected) in [
        ("git merge -q --no-edit origin/bump", &new),
        ("git checkout -q origin/bump -- vendor/library; git commit -qm three", &new),
        ("git revert --no-edit HEAD", &old),
        ("git reset -q --hard HEAD~1; echo z > z", &old),
    ] {
        let job = house.run(&format!("{move_it}; sleep 1.1; {habit}"));
        assert_eq!(house.link(&job).as_ref().unwrap_or(&old), expected, "{habit}: {job:#}");
    }
    // What it checked out last is what it wants.
    let job = house.run(&format!("{move_it}; sleep 1.1; git -C vendor/library checkout -q {old}; echo z > z"));
    assert_eq!(house.link(&job).as_ref(), Some(&old), "{job:#}");
    let job = house
        .run(&format!("git merge -q --no-edit origin/bump; sleep 1.1; git -C vendor/library checkout -q {between}"));
    assert_eq!(house.link(&job).as_ref(), Some(&between), "{job:#}");
    house.server.stop();
}

/// The remote's branch has gone on: the commit that is moved is none of its tips.
#[test]
fn a_submodule_that_is_moved_to_another_path_is_published_there() {
    let (house, old, _) = with_bump(PROFILE);
    let job = house.run("mkdir libs; git mv vendor/library libs/library; echo z > a.txt");
    let tree = house.repo.git(&["ls-tree", "-r", job["branch"].as_str().unwrap()]).unwrap();
    assert!(tree.contains(&format!("160000 commit {old}\tlibs/library")), "{tree} {job:#}");
    assert!(!tree.contains("vendor/library"), "{tree}");
    house.server.stop();
}
