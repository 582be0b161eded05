//! What agents do in their repositories, many at a time: the job that comes after is as if they had not been.
//!
//! One repository with Git LFS files and a submodule; two pods with two workers each, whose clone caches are shared.

use crate::support::fleet::{Fleet, SLUG};
use crate::support::lfs::pointer;
use crate::support::repo::git;
use crate::support::{Lab, Repo, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Habits of agents, each a few lines of shell.
pub const HABITS: [&str; 48] = [
    // Hooks and configuration.
    "printf '#!/bin/sh\\nexit 1\\n' > $(git rev-parse --git-path hooks)/pre-commit; chmod +x $(git rev-parse --git-path hooks)/pre-commit",
    "git config commit.gpgsign true; git config core.hooksPath /nonexistent; git config user.name evil",
    "git config core.fsmonitor 'touch /nonexistent'; git config alias.status '!false'",
    "echo '*' >> $(git rev-parse --git-path info/exclude)",
    "echo '*.txt filter=evil' > $(git rev-parse --git-path info/attributes); git config filter.evil.clean false",
    "echo garbage > $(git rev-parse --git-dir)/config; echo garbage > $(git rev-parse --git-dir)/HEAD",
    // Stashes, branches, tags, notes.
    "echo 1 > x; git add x; git stash",
    "echo 1 > y; git stash -u",
    "git branch old HEAD; git branch fix/x; git tag v1; git tag -a v2 -m two",
    "git checkout -q -b feature; echo 1 > f; git add f; git commit -qm f; git checkout -q -",
    "git checkout -q -b main2 origin/main; echo 1 > g; git add g; git commit -qm g",
    "git notes add -m note HEAD",
    "git checkout -q --detach; echo 1 > d; git add d; git commit -qm d",
    "git branch -f main HEAD; git symbolic-ref HEAD refs/heads/main; git commit -q --allow-empty -m main",
    // Worktrees and repositories inside.
    "git worktree add -q ../beside-$$ -b beside; echo 1 > ../beside-$$/z",
    "git worktree add -q .claude/worktrees/w -b w; cd .claude/worktrees/w; echo 1 > z; git add z; git commit -qm w",
    "git init -q nested; cd nested; echo 1 > n; git add n; git commit -qm n",
    "git clone -q . ../copy-$$; cd ../copy-$$; echo 1 > c; git add c; git commit -qm c; git push -q origin HEAD:copied",
    "mv .git .git-aside; git init -q .; git add .; git commit -qm all",
    // Remotes.
    "git remote set-url origin /nonexistent; git remote add other /nonexistent",
    "git remote rename origin upstream",
    "git remote remove origin",
    "git fetch -q --depth 1",
    "git fetch -q origin; git fetch -q --tags; git fetch -q --prune",
    "git pull -q --rebase origin main; echo 1 > pulled",
    // Objects.
    "git gc -q --prune=now",
    "git prune --expire=now; git repack -qadf",
    "git repack -qadl; git pack-refs --all",
    "rm -rf $(git rev-parse --git-dir)/objects/*",
    "rm -rf $(git rev-parse --git-dir)/refs; rm -f $(git rev-parse --git-dir)/packed-refs",
    "git update-ref -d refs/remotes/origin/main",
    "git update-ref refs/remotes/origin/main $(git commit-tree -m evil HEAD^{tree})",
    "git replace HEAD $(git commit-tree -m evil HEAD^{tree})",
    "git maintenance run -q --auto; git commit-graph write --reachable; git multi-pack-index write",
    "for n in $(seq 150); do echo $n > many$n; done; git add .; git commit -qm many; git reset -q --hard HEAD~1",
    // Files and the index.
    "git sparse-checkout set nothing",
    "git update-index --assume-unchanged README.md; echo changed > README.md",
    "git rm -q --cached README.md; git add -f README.md; git update-index --chmod=+x README.md",
    "git mv README.md README.txt; git commit -qm moved; echo 1 >> README.txt",
    "git reset -q --hard HEAD~0; git clean -qfdx; git bisect start",
    "rm -rf *; git add -A",
    "mkdir p; echo 1 > p/f; chmod 000 p",
    // What is not finished.
    "git checkout -q -b side; echo side > README.md; git commit -qam side; git checkout -q -; echo own > README.md; git commit -qam own; git merge side",
    "echo 1 > r; git add r; git commit -qm r; GIT_SEQUENCE_EDITOR='sed -i s/pick/edit/' git rebase -q -i HEAD~1",
    // Git LFS and submodules.
    "printf forged > old.bin; find $(git rev-parse --git-dir)/lfs -type f -exec sh -c 'echo forged > {}' \\;",
    "printf new-$$ > new.bin; git add new.bin; git commit -qm new; git lfs prune; git lfs uninstall --local",
    "git submodule deinit -qf --all; rm -rf $(git rev-parse --git-dir)/modules",
    "git -C sub checkout -q -b x; echo 1 > sub/x; git -C sub add x; git -C sub commit -qm x; git -C sub gc -q --prune=now",
];

/// An order that differs from run to run; the seed is said when something fails.
fn shuffled(seed: u64) -> Vec<&'static str> {
    let mut state = seed;
    let mut habits = HABITS.to_vec();
    for at in (1..habits.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        habits.swap(at, (state >> 33) as usize % (at + 1));
    }
    habits
}

fn submit(server: &Server, url: &str, task: &str) -> String {
    server.submit(json!({"task": task, "repo_url": url, "profile": "with-token"}))
}

/// Its pull request is its own change and nothing else.
fn assert_is_plain(fleet: &Fleet, job: &Value, base: &str, after: &str) {
    assert_eq!((&job["status"], &job["error"]), (&json!("succeeded"), &json!(null)), "{after}: {job:#}");
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{after}: {job:#}");
    assert!(job["pr_url"].is_string(), "{after}: {job:#}");
    let branch = job["branch"].as_str().unwrap();
    let changed = fleet.repo.git(&["diff", "--name-status", base, branch]).unwrap();
    assert_eq!(changed, "A\tplain.txt", "{after}");
    assert_eq!(fleet.repo.git(&["rev-list", "--count", &format!("{base}..{branch}")]).unwrap(), "1", "{after}");
    // It found the contents of the LFS file and of the submodule, and a clean worktree.
    assert_eq!(fleet.repo.file(branch, "plain.txt").as_deref(), Some("plain the old content inner"), "{after}");
}

#[test]
fn a_job_after_any_habit_of_another_is_as_if_it_had_not_been() {
    let Some(fleet) = Fleet::new() else { return };
    fleet.github.lfs().add(b"the old content");
    let inner = fleet.github.repository("me/inner");
    let of_inner = inner.commit("main", &[("inner.txt", "inner")]);
    let attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n";
    let old = pointer(b"the old content");
    fleet.repo.commit("main", &[(".gitattributes", attributes), ("old.bin", &old), (".gitignore", "*.log\n")]);
    let base = with_submodule(&fleet.lab, &fleet.repo, &of_inner);
    let pods: Vec<Server> = ["pod-a", "pod-b"]
        .iter()
        .map(|pod| {
            let profile = fleet.disk_of(pod).join("home/.agenticore/profiles/with-token");
            std::fs::create_dir_all(&profile).unwrap();
            std::fs::write(profile.join("profile.yml"), "extends: coding\ngithub_token: true\n").unwrap();
            fleet.pod_with(pod, &[("AGENTICORE_MAX_PARALLEL_JOBS", "2")])
        })
        .collect();
    let url = fleet.github.repo_url(SLUG);
    let seed = u64::from(std::process::id());
    let mut accepted = Vec::new();
    let plain = "[[bash echo plain $(cat old.bin) $(cat sub/inner.txt) $(git status --porcelain) > plain.txt; \
                 truncate -s -1 plain.txt]]";
    for some in shuffled(seed).chunks(4) {
        let after = format!("seed {seed}, {some:?}");
        let ids: Vec<String> =
            some.iter().map(|habit| submit(&pods[0], &url, &format!("[[bash {habit}]] [[say done]]"))).collect();
        for id in &ids {
            let job = pods[0].wait(id);
            assert!(["succeeded", "failed"].contains(&job["status"].as_str().unwrap()), "{after}: {job:#}");
        }
        // One for each worker, at the same time.
        let plains: Vec<String> = some.iter().map(|_| submit(&pods[1], &url, plain)).collect();
        for id in &plains {
            assert_is_plain(&fleet, &pods[1].wait(id), &base, &after);
        }
        for cache in std::fs::read_dir(fleet.lab.path("shared/repos")).unwrap().flatten() {
            let sound = git(&cache.path().join("repo"), &["fsck", "--connectivity-only", "--no-dangling"]);
            assert!(sound.is_ok(), "{after}: {sound:?}");
        }
        accepted.extend(ids.into_iter().chain(plains));
    }
    let jobs = fleet.check_ledger(&pods[0], &accepted);
    let of_pod = jobs.iter().fold(BTreeMap::new(), |mut counted: BTreeMap<&str, usize>, job| {
        *counted.entry(job["pod_name"].as_str().unwrap()).or_default() += 1;
        counted
    });
    assert!(of_pod.len() == 2, "both pods worked: {of_pod:?}");
    assert_eq!(fleet.repo.git(&["rev-parse", "main"]).unwrap(), base, "nobody moved main");
    // What agents put beside their worktrees is nobody's.
    for pod in ["pod-a", "pod-b"] {
        for entry in std::fs::read_dir(fleet.disk_of(pod).join("worktrees")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("beside-") || name.starts_with("copy-") {
                std::fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    }
    fleet.finish(pods);
}

/// A commit on main with a submodule of the repository beside it; returns it.
fn with_submodule(lab: &Lab, repo: &Repo, commit: &str) -> String {
    let clone = lab.path("adds");
    git(lab.dir.path(), &["clone", "-q", &repo.url(), clone.to_str().unwrap()]).unwrap();
    git(&clone, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]).unwrap();
    std::fs::write(clone.join(".gitmodules"), "[submodule \"sub\"]\n\tpath = sub\n\turl = ../inner\n").unwrap();
    git(&clone, &["add", ".gitmodules"]).unwrap();
    git(&clone, &["commit", "-qm", "a submodule"]).unwrap();
    git(&clone, &["push", "-q", "origin", "HEAD:main"]).unwrap();
    repo.git(&["rev-parse", "main"]).unwrap()
}
