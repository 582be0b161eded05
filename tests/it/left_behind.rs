//! Whatever an agent leaves is published as it is, or stays in the worktree and the record says why. Nothing is lost.

use crate::support::repo::git;
use crate::support::{Lab, Repo, Server, eventually};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

struct House {
    lab: Lab,
    repo: Repo,
    server: Server,
}

impl House {
    /// A repository with files in directories, and a branch besides.
    fn new() -> Self {
        let lab = Lab::new();
        let repo = lab.repo();
        let files: Vec<(String, &str)> = (0..30).map(|n| (format!("some/f{n}"), "1")).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        repo.commit("main", &files);
        repo.commit("other", &[("other.txt", "1")]);
        let server = lab.serve();
        Self { lab, repo, server }
    }

    fn run(&self, habit: &str) -> Value {
        self.server.run(json!({"task": format!("[[bash {habit}]] [[say done]]"), "repo_url": self.repo.url()}))
    }

    /// The worktree is there, for a reason with these words.
    fn assert_kept(&self, job: &Value, because: &str) -> PathBuf {
        let why = job["kept_because"].as_str().unwrap_or_default();
        assert!(why.contains(because), "{because}: {job:#}");
        let path = Path::new(job["worktree_path"].as_str().unwrap()).to_owned();
        assert!(path.is_dir(), "{job:#}");
        path
    }

    fn published(&self, job: &Value, path: &str) -> Option<String> {
        self.repo.file(job["branch"].as_str().unwrap(), path)
    }
}

#[test]
fn commits_that_head_does_not_hold_stay_on_their_branch() {
    let house = House::new();
    let commit = "echo 1 > one.txt; git add one.txt; git commit -qm one";
    for (habit, because) in [
        // A detached HEAD, as in the middle of a rebase, with changes in the worktree.
        (format!("{commit}; git checkout -q --detach origin/main; echo 2 > two.txt"), "on another branch"),
        (format!("{commit}; git checkout -q -b side origin/main; echo 2 > two.txt"), "on another branch"),
        // More references than anybody looks at one by one.
        (
            format!(
                "{commit}; for n in $(seq 1500); do echo create refs/tags/t$n $(git rev-parse origin/main); done | \
                 git update-ref --stdin; git checkout -q --detach origin/main; echo 2 > two.txt"
            ),
            "on another branch",
        ),
        (
            format!(
                "git branch caf$(printf \"\\351\"); git checkout -q caf$(printf \"\\351\"); {commit}; \
                 git checkout -q --detach origin/main; echo 2 > two.txt"
            ),
            "on another branch",
        ),
        (
            "echo 1 > README.md; g=$(git rev-parse --git-dir); mkdir $g/rebase-merge; \
             git stash create one > $g/rebase-merge/autostash; git checkout -q .; echo 2 > two.txt"
                .to_owned(),
            "in a stash",
        ),
    ] {
        let job = house.run(&habit);
        let worktree = house.assert_kept(&job, because);
        assert_eq!(house.published(&job, "two.txt").as_deref(), Some("2"), "{habit}: {job:#}");
        assert_eq!(house.published(&job, "one.txt"), None);
        if habit.contains("one.txt") {
            let all = git(&worktree, &["log", "--all", "--format=%s"]).unwrap();
            assert!(all.lines().any(|line| line == "one"), "{habit}: {all}");
        }
    }
    house.server.stop();
    house.lab.assert_no_process();
}

#[test]
fn commits_of_a_detached_head_that_was_left_keep_the_worktree() {
    let house = House::new();
    let job = house.run("git checkout -q --detach; echo 1 > one.txt; git add .; git commit -qm one; git checkout -q -");
    house.assert_kept(&job, "another branch");
    // Where they are on the branch in the end, nothing is kept.
    let job = house.run(
        "git checkout -q --detach; echo 1 > one.txt; git add .; git commit -qm one; c=$(git rev-parse HEAD); \
         git checkout -q -; git merge -q $c",
    );
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{job:#}");
    house.server.stop();
}

#[test]
fn what_the_agent_fetched_is_not_its_work() {
    let house = House::new();
    // Somebody pushes to the remote while the job runs.
    let push = |name: &str| {
        format!(
            "u=$(git remote get-url origin); git clone -q $u ../theirs-{name}; cd ../theirs-{name}; echo 1 > {name}; \
             git add .; git commit -qm theirs; git push -q origin HEAD:main; git tag v-{name}; \
             git commit -q --allow-empty -m release; git tag r-{name}; git push -q --tags; cd -"
        )
    };
    let job = house.run(&format!("{}; git pull -q origin main", push("a")));
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(false), &json!(null)), "{job:#}");
    assert_eq!(house.repo.file("main", "a").as_deref(), Some("1"));
    let job = house.run(&format!("{}; git fetch -q --tags; echo 2 > two.txt", push("b")));
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{job:#}");
    assert!(house.repo.git(&["rev-parse", "--verify", "r-b"]).is_ok());
    // What it has pushed itself, on the job's branch, is its work.
    let job = house.run("git fetch -q; echo 1 > c; git add c; git commit -qm mine; git push -q origin HEAD");
    assert_eq!((&job["pushed"], &job["error"]), (&json!(true), &json!(null)), "{job:#}");
    assert_eq!(house.published(&job, "c").as_deref(), Some("1"));
    house.server.stop();
}

#[test]
fn conflicts_are_named_and_a_merge_without_them_is_concluded() {
    let house = House::new();
    house.repo.commit("theirs", &[("README.md", "theirs")]);
    let mine = "echo mine > README.md; git commit -qam mine";
    for habit in [
        format!("{mine}; git merge -q origin/theirs; true"),
        format!("{mine}; git merge -q origin/theirs; git add .; git commit -qm merged"),
        "echo mine > README.md; git stash -q; git merge -q origin/theirs; git stash pop; git stash drop".to_owned(),
    ] {
        let job = house.run(&habit);
        house.assert_kept(&job, "conflicts are left unresolved in `README.md`");
        assert_eq!(job["pushed"], json!(true), "{habit}: {job:#}");
    }
    house.lab.profile("careful", "extends: coding\npublish_conflicts: false\n");
    let task = format!("[[bash {mine}; git merge -q origin/theirs; true]] [[say done]]");
    let job = house.server.run(json!({"task": task, "repo_url": house.repo.url(), "profile": "careful"}));
    assert!(job["error"].as_str().unwrap_or_default().contains("publish_conflicts"), "{job:#}");
    assert_eq!((&job["pushed"], job["worktree_path"].is_string()), (&json!(false), true), "{job:#}");
    let job = house.run(&format!("{mine}; git merge -q -X ours --no-commit --no-ff origin/other"));
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{job:#}");
    assert_eq!(job["caution"], "the agent did not finish a merge that it had begun", "{job:#}");
    // What the server's commit does not conclude keeps the worktree too.
    let rebase = "echo 1 > r; git add r; git commit -qm r; echo 2 > r; git commit -qam r2; \
                  GIT_SEQUENCE_EDITOR=\"sed -i s/pick/edit/\" git rebase -q -i HEAD~2";
    let pick = "git cherry-pick --no-commit origin/other; git rev-parse origin/other > $(git rev-parse --git-dir)/CHERRY_PICK_HEAD";
    for (habit, what) in [(rebase, "a rebase"), (pick, "a cherry-pick")] {
        let job = house.run(habit);
        let caution = job["caution"].as_str().unwrap_or_default();
        assert!(caution.contains(what) && job["pushed"] == true, "{habit}: {job:#}");
        assert_eq!(job["kept_because"].is_string(), what == "a rebase", "{job:#}");
    }
    let task = format!("[[bash {pick}]] [[say done]]");
    let job = house.server.run(json!({"task": task, "repo_url": house.repo.url(), "profile": "careful"}));
    assert!(job["error"].as_str().unwrap_or_default().contains("publish_conflicts"), "{job:#}");
    house.server.stop();
}

#[test]
fn a_worktree_that_was_emptied_without_a_commit_publishes_nothing() {
    let lab = Lab::new();
    let (repo, server) = (lab.repo(), lab.serve());
    let run =
        |habit: &str| server.run(json!({"task": format!("[[bash {habit}]] [[say done]]"), "repo_url": repo.url()}));
    let job = run("rm -rf *");
    assert!(job["error"].as_str().unwrap_or_default().contains("all 1 files are missing"), "{job:#}");
    assert_eq!((&job["pushed"], job["worktree_path"].is_string()), (&json!(false), true), "{job:#}");
    for meant in ["git rm -q README.md; git commit -qm gone", "rm README.md; echo 1 > other.md"] {
        let job = run(meant);
        assert_eq!((&job["pushed"], &job["error"]), (&json!(true), &json!(null)), "{job:#}");
    }
    server.stop();
}

#[test]
fn a_repository_made_in_a_tracked_directory_is_named() {
    let house = House::new();
    let job = house.run("git init -q some; cd some; git add f1; git commit -qm inside; echo 2 > f2");
    house.assert_kept(&job, "`some` is a repository of its own");
    assert_eq!(house.published(&job, "some/f2").as_deref(), Some("2"));
    house.server.stop();
}

#[test]
fn what_only_looks_like_work_is_none() {
    let house = House::new();
    for habit in [
        "git checkout -q other",
        "git checkout -q --detach origin/other",
        "git sparse-checkout set nothing; test ! -e some/f1",
        "git update-index --skip-worktree some/f1; rm some/f1",
        "git replace HEAD $(git commit-tree -m other HEAD^{tree})",
    ] {
        let job = house.run(habit);
        let shown = (&job["status"], &job["pushed"], &job["kept_because"], &job["worktree_path"]);
        assert_eq!(shown, (&json!("succeeded"), &json!(false), &json!(null), &json!(null)), "{habit}: {job:#}");
    }
    house.server.stop();
    house.lab.assert_tidy();
}

#[test]
fn what_a_sparse_checkout_leaves_out_is_not_deleted() {
    let house = House::new();
    let job = house.run("git sparse-checkout set other; echo 2 > two.txt; echo 3 > README.md");
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{job:#}");
    let changed = house.repo.git(&["diff", "--name-status", "main", job["branch"].as_str().unwrap()]).unwrap();
    assert_eq!(changed, "M\tREADME.md\nA\ttwo.txt");
    house.server.stop();
    house.lab.assert_tidy();
}

#[test]
fn what_was_staged_on_purpose_is_published() {
    let house = House::new();
    let job = house.run(
        "echo dist/ > .gitignore; mkdir dist; echo 1 > dist/app.js; echo 1 > dist/other.js; git add -f dist/app.js; \
         git rm -q --cached some/f1; echo some/f1 >> .gitignore; git update-index --chmod=+x some/f2",
    );
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{job:#}");
    let branch = job["branch"].as_str().unwrap();
    let changed = house.repo.git(&["diff", "--raw", "--abbrev=1", "--no-renames", "main", branch]).unwrap();
    let changed: Vec<(&str, &str)> =
        changed.lines().map(|line| (line.split(' ').nth(1).unwrap(), line.split('\t').nth(1).unwrap())).collect();
    let expected = [("100644", ".gitignore"), ("100644", "dist/app.js"), ("000000", "some/f1"), ("100755", "some/f2")];
    assert_eq!(changed, expected);
    // Nothing else is changed than what was staged.
    for (staging, expected) in [
        ("git rm -q --cached some/f1; echo some/f1 >> $(git rev-parse --git-path info/exclude)", "D\tsome/f1"),
        ("git update-index --chmod=+x some/f1", "M\tsome/f1"),
    ] {
        let job = house.run(staging);
        assert_eq!(job["pushed"], json!(true), "{job:#}");
        let branch = job["branch"].as_str().unwrap();
        assert_eq!(house.repo.git(&["diff", "--name-status", "main", branch]).unwrap(), expected);
    }
    // Nothing is done through a link, here or outside.
    let outside = house.lab.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("f1"), "1").unwrap();
    let job = house.run(&format!(
        "git update-index --chmod=+x some/f1; mkdir -p a; echo 1 > a/f; git add a; mv some other; ln -s {} some; mv a c; \
         ln -s c a",
        outside.display()
    ));
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{job:#}");
    assert_eq!((house.published(&job, "c/f").as_deref(), house.published(&job, "a/f")), (Some("1"), None));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(outside.join("f1")).unwrap().permissions().mode() & 0o111, 0);
    // A commit made with another index leaves the agent's own behind: nothing is removed by that.
    let job = house.run(
        "echo 1 > new.txt; export GIT_INDEX_FILE=$PWD/../index-$$; git read-tree HEAD; git add new.txt; \
         git commit -qm new; rm $GIT_INDEX_FILE",
    );
    assert_eq!(house.published(&job, "new.txt").as_deref(), Some("1"), "{job:#}");
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{job:#}");
    house.server.stop();
}

#[test]
fn one_file_that_cannot_be_added_stops_no_other() {
    let house = House::new();
    let job = house.run(
        "echo \"*.rc working-tree-encoding=UTF-16LE-BOM text\" > .gitattributes; echo abcd > app.rc; echo 2 > two.txt; \
         echo 3 > zzz.txt",
    );
    house.assert_kept(&job, "`app.rc`");
    assert_eq!(
        (house.published(&job, "two.txt"), house.published(&job, "zzz.txt")),
        (Some("2".into()), Some("3".into()))
    );
    assert_eq!(house.published(&job, "app.rc"), None);
    house.server.stop();
}

#[test]
fn most_of_a_repository_is_not_deleted_unless_a_commit_says_so() {
    let house = House::new();
    let job = house.run("rm -rf some; echo 2 > two.txt");
    let error = job["error"].as_str().unwrap_or_default();
    assert!(error.contains("files are missing without a commit"), "{job:#}");
    assert_eq!((&job["pushed"], job["worktree_path"].is_string()), (&json!(false), true));
    let job = house.run("git rm -rq some; git commit -qm gone");
    assert_eq!(job["pushed"], json!(true), "{job:#}");
    assert_eq!(house.published(&job, "some/f1"), None);
    // One file, or one that is in another place now, is an everyday change.
    let job = house.run("rm some/f1; git mv some/f2 f2; mkdir x; mv some/f3 x");
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{job:#}");
    assert_eq!((house.published(&job, "some/f1"), house.published(&job, "x/f3")), (None, Some("1".into())));
    house.server.stop();
}

#[test]
fn other_repositories_are_not_published_and_not_removed() {
    let house = House::new();
    let commit = "git add .; git commit -qm inside";
    for (habit, because) in [
        (
            format!("git init -q nested; cd nested; echo 1 > n; {commit}; cd ..; echo 2 > two.txt"),
            "`nested` is a repository of its own",
        ),
        (format!("rm .git; git init -q; echo 2 > two.txt; {commit}"), "another repository"),
        ("echo 2 > two.txt; git worktree add -q beside; echo 1 > beside/x".to_owned(), "added a worktree"),
        ("echo 2 > two.txt; git init -q empty".to_owned(), "`empty` is a repository of its own"),
        // A name with a word that is also one of git's reasons.
        ("echo 2 > two.txt; git init -q openssl".to_owned(), "`openssl` is a repository of its own"),
    ] {
        let job = house.run(&habit);
        house.assert_kept(&job, because);
        assert_eq!(house.published(&job, "two.txt").as_deref(), Some("2"), "{habit}: {job:#}");
        let files = house.repo.git(&["ls-tree", "-r", "--name-only", job["branch"].as_str().unwrap()]).unwrap();
        assert!(!files.contains("nested") && !files.contains("beside") && !files.contains("empty"), "{files}");
    }
    let job = house.run("git init -q nested; cd nested; echo 1 > n; git add n; git commit -qm n");
    house.assert_kept(&job, "`nested` is a repository of its own");
    assert_eq!((&job["pushed"], &job["status"]), (&json!(false), &json!("succeeded")), "{job:#}");
    house.server.stop();
}

#[test]
fn a_file_with_a_filter_is_not_published_without_it() {
    let house = House::new();
    let job = house.run("echo \"*.bin filter=mine\" > .gitattributes; echo big > a.bin; echo 2 > two.txt");
    house.assert_kept(&job, "`a.bin`");
    assert_eq!(house.published(&job, "two.txt").as_deref(), Some("2"), "{job:#}");
    assert_eq!(house.published(&job, "a.bin"), None);
    // Of a move neither half.
    let job = house.run(
        "echo \"*.bin filter=mine\" > .gitattributes; echo big > a.bin; git add .; git commit -qm big; mv a.bin b.bin; \
         echo 2 > two.txt",
    );
    house.assert_kept(&job, "`");
    assert_eq!(
        (house.published(&job, "a.bin").as_deref(), house.published(&job, "b.bin")),
        (Some("big"), None),
        "{job:#}"
    );
    // Its own git ran the filter, or had none: that commit is its own.
    let job = house.run("echo \"*.bin -filter\" > .gitattributes; echo big > a.bin");
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{job:#}");
    assert_eq!(house.published(&job, "a.bin").as_deref(), Some("big"));
    house.server.stop();
}

#[test]
fn what_a_dead_server_left_of_taking_over_goes_with_the_job() {
    let house = House::new();
    let gate = house.lab.path("gate");
    let id = house.server.submit(json!({
        "task": format!("[[wait-for {}]]", gate.display()), "repo_url": house.repo.url()
    }));
    eventually("it works", || house.server.job(&id)["worktree_path"].is_string().then_some(()));
    let cached = std::fs::read_dir(house.lab.path("repos")).unwrap().flatten().next().unwrap().path();
    let left = cached.join(format!("import-{id}"));
    std::fs::create_dir_all(left.join("objects/pack")).unwrap();
    std::fs::write(&gate, "").unwrap();
    house.server.wait(&id);
    eventually("what was left is gone", || (!left.exists()).then_some(()));
    house.server.stop();
    house.lab.assert_tidy();
}

#[test]
fn what_is_only_staged_is_not_lost() {
    let house = House::new();
    for habit in [
        "echo precious > n; git add n; rm n",
        "echo precious > README.md; git add README.md; git restore --source=HEAD --worktree README.md",
    ] {
        let job = house.run(habit);
        house.assert_kept(&job, "what the agent staged of `");
        assert_eq!(job["pushed"], json!(false), "{habit}: {job:#}");
    }
    // It moved on, or is somewhere else by now.
    for habit in ["echo 1 > n; git add n; echo 2 > n", "echo 1 > n; git add n; mv n m"] {
        let job = house.run(habit);
        assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{habit}: {job:#}");
    }
    house.server.stop();
}

#[test]
fn a_split_index_is_read_whole() {
    let house = House::new();
    let more: Vec<(String, &str)> = (0..8).map(|n| (format!("m{n}/f"), "1")).collect();
    let more: Vec<(&str, &str)> = more.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    house.repo.commit("main", &more);
    for habit in [
        "git config core.splitIndex true; git sparse-checkout set some; echo 2 > some/f1; git add -A; git commit -qm x",
        "git update-index --split-index; git sparse-checkout set some; echo 2 > some/f1",
    ] {
        let job = house.run(habit);
        let changed = house.repo.git(&["diff", "--name-status", "main", job["branch"].as_str().unwrap()]).unwrap();
        assert_eq!(changed, "M\tsome/f1", "{habit}: {job:#}");
    }
    let job = house.run("git config core.splitIndex true; echo x.log > .gitignore; echo 1 > x.log; git add -f x.log");
    assert_eq!(house.published(&job, "x.log").as_deref(), Some("1"), "{job:#}");
    house.server.stop();
}

#[test]
fn a_submodule_that_nothing_names_is_looked_into() {
    let house = House::new();
    let inner = Repo::with_commit(&house.lab.path("inner.git"));
    let commit = inner.git(&["rev-parse", "main"]).unwrap();
    let clone = house.lab.path("adds");
    git(house.lab.dir.path(), &["clone", "-q", &house.repo.url(), clone.to_str().unwrap()]).unwrap();
    git(&clone, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},stray")]).unwrap();
    git(&clone, &["commit", "-qm", "a gitlink"]).unwrap();
    git(&clone, &["push", "-q", "origin", "HEAD:main"]).unwrap();
    let clone = format!("git clone -q {} stray", inner.url());
    for habit in [format!("{clone}; echo 1 > stray/n"), "echo 1 > stray/n".to_owned()] {
        let job = house.run(&habit);
        house.assert_kept(&job, "worked in the submodule `stray`");
    }
    // The name of a commit that only the agent has is never published by the server.
    let mine = "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m mine";
    let add = format!("git -c protocol.file.allow=always submodule --quiet add {} new", inner.url());
    for (habit, is_published) in [
        (format!("{add}; git -C new {}; echo 1 > one.txt", mine.trim_start_matches("git ")), false),
        (
            format!(
                "mkdir q; git init -q q; git -C q {}; git submodule --quiet add ./q q; echo 1 > one.txt",
                mine.trim_start_matches("git ")
            ),
            false,
        ),
        (format!("{add}; echo 1 > one.txt"), true),
    ] {
        let job = house.run(&habit);
        let branch = job["branch"].as_str().unwrap();
        let changed = house.repo.git(&["diff", "--name-only", "main", branch]).unwrap();
        let expected = if is_published { ".gitmodules\nnew\none.txt" } else { "one.txt" };
        assert_eq!(changed, expected, "{habit}: {job:#}");
    }
    house.server.stop();
}

#[test]
fn what_nobody_touched_is_not_published() {
    let house = House::new();
    // In the repository in another form than its attributes ask for, as people have them.
    house.repo.commit("main", &[("crlf.txt", "a\r\nb\r\n"), ("id.c", "$Id: x $\n"), ("raw.bin", "no pointer")]);
    let attributes = "*.txt text\n*.c ident\n*.bin filter=lfs diff=lfs merge=lfs -text\n";
    let clone = house.lab.path("adds");
    git(house.lab.dir.path(), &["clone", "-q", &house.repo.url(), clone.to_str().unwrap()]).unwrap();
    std::fs::write(clone.join(".gitattributes"), attributes).unwrap();
    git(&clone, &["add", ".gitattributes"]).unwrap();
    git(&clone, &["commit", "-qm", "attributes"]).unwrap();
    git(&clone, &["push", "-q", "origin", "HEAD:main"]).unwrap();
    for habit in ["true", "sleep 1.5"] {
        let job = house.run(habit);
        assert_eq!(job["note"], "the agent changed nothing: no branch, no pull request", "{habit}: {job:#}");
    }
    for (habit, changed) in [
        ("echo 2 > some/f1", "some/f1"),
        ("echo 2 > some/f1; git add some/f1; git commit -qm two; echo 3 > some/f2", "some/f1\nsome/f2"),
        ("printf c >> crlf.txt", "crlf.txt"),
    ] {
        let job = house.run(habit);
        assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{habit}: {job:#}");
        let branch = job["branch"].as_str().unwrap();
        assert_eq!(house.repo.git(&["diff", "--name-only", "main", branch]).unwrap(), changed, "{habit}");
    }
    house.server.stop();
}

#[test]
fn a_pipe_in_the_place_of_a_file_of_gits_is_named_and_nobody_waits() {
    let lab = Lab::new().with("AGENTICORE_GIT_TIMEOUT", "4");
    let repo = lab.repo();
    repo.commit("main", &[("d/x", "1\n")]);
    let server = lab.serve();
    for (habit, trap) in [
        ("mkfifo d/.gitattributes; echo x >> d/x", "d/.gitattributes"),
        ("mkdir q; mkfifo q/.gitignore; echo 1 > q/f", "q/.gitignore"),
        ("mkdir -p n/.git; mkfifo n/.git/HEAD; echo 1 > n/f", "n/.git/HEAD"),
    ] {
        let job = server.run(json!({"task": format!("[[bash {habit}]] [[say done]]"), "repo_url": repo.url()}));
        let error = job["error"].as_str().unwrap_or_default();
        assert!(error.contains(&format!("`{trap}`")), "{habit}: {job:#}");
        assert_eq!((&job["status"], job["worktree_path"].is_string()), (&json!("succeeded"), true), "{job:#}");
    }
    server.stop();
}

#[test]
fn files_that_cannot_be_added_keep_no_other_back_whatever_their_names() {
    let house = House::new();
    let job = house.run(
        "echo \"*.u working-tree-encoding=UTF-16LE\" > .gitattributes; printf odd > \"it's.u\"; printf odd > \"$(printf \\
         \"a\\nb\").u\"; printf odd > \"$(printf \"\\377\").u\"; echo ok > fine.txt; echo 2 > some/f1",
    );
    house.assert_kept(&job, "not every change in it could be committed");
    let branch = job["branch"].as_str().unwrap();
    let changed = house.repo.git(&["diff", "--name-only", "main", branch]).unwrap();
    assert_eq!(changed, ".gitattributes\nfine.txt\nsome/f1", "{job:#}");
    house.server.stop();
}
