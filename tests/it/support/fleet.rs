//! Several servers on one Redis and one shared directory, each in a mount namespace of its own, with
//! a disk of its own: another pod's worktree is truly not there.

use super::redis::Redis;
use super::{BINARY, GitHub, Lab, Repo, Server, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Fleet {
    pub lab: Lab,
    pub redis: Redis,
    pub github: GitHub,
    pub repo: Repo,
}

pub const SLUG: &str = "me/project";

impl Fleet {
    /// None, and a loud word, where this machine makes no mount namespaces.
    pub fn new() -> Option<Self> {
        Self::with_redis(&[])
    }

    pub fn with_redis(arguments: &[&str]) -> Option<Self> {
        let probe = Command::new("unshare").args(["-m", "--propagation", "private", "true"]).output();
        if !probe.is_ok_and(|probe| probe.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "CI must be able to make mount namespaces");
            eprintln!("SKIPPED: this machine makes no mount namespaces");
            return None;
        }
        let lab = Lab::new();
        let redis = Redis::start_with(&lab.path("redis"), arguments);
        let github = GitHub::start(&lab.path("github"));
        let repo = github.repository(SLUG);
        let path = |name: &str| lab.path(name).display().to_string();
        let settings = [
            ("REDIS_URL", redis.url()),
            ("AGENTICORE_SHARED_FS_ROOT", path("shared")),
            ("AGENTICORE_JOBS_DIR", path("shared/job-state")),
            ("AGENTICORE_REPOS_ROOT", path("shared/repos")),
            ("AGENTICORE_WORKTREE_ROOT", path("disk/worktrees")),
            ("TMPDIR", path("disk/tmp")),
            ("HOME", path("disk/home")),
            // A third of the defaults and less.
            ("AGENTICORE_LEASE", "6".into()),
            ("AGENTICORE_LEASE_RENEW", "500ms".into()),
            ("AGENTICORE_KILL_GRACE", "500ms".into()),
            ("AGENTICORE_REAP_PERIOD", "200ms".into()),
            ("AGENTICORE_REAP_GRACE", "2".into()),
            ("AGENTICORE_SWEEP_PERIOD", "500ms".into()),
            ("REDIS_TIMEOUT", "1".into()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let lab = lab.with_all([settings, github.variables_with_token()].concat());
        std::fs::create_dir_all(lab.path("shared/repos")).unwrap();
        std::fs::create_dir_all(lab.path("disk")).unwrap();
        Some(Self { lab, redis, github, repo })
    }

    /// Redis alone has the jobs: each pod keeps its files on its own disk.
    pub fn without_second_copy(mut self) -> Self {
        for (name, below) in [("AGENTICORE_JOBS_DIR", "disk/jobs"), ("AGENTICORE_REPOS_ROOT", "disk/repos")] {
            let path = self.lab.path(below).display().to_string();
            self.lab.set(name, path);
        }
        self.lab.variables.remove("AGENTICORE_SHARED_FS_ROOT");
        self
    }

    pub fn pod(&self, name: &str) -> Server {
        self.pod_with(name, &[])
    }

    pub fn pod_with(&self, name: &str, more: &[(&str, &str)]) -> Server {
        Server::start(self.command(name, &["serve"], more))
    }

    /// A pod of another version.
    pub fn pod_of(&self, binary: &Path, name: &str) -> Server {
        Server::start(self.command_of(binary, name, &["serve"], &[]))
    }

    /// What a PreStop hook does, to its end.
    pub fn drain(&self, binary: &Path, pod: &str, port: &str, seconds: &str) -> (Option<i32>, String) {
        let more = [("AGENTICORE_PORT", port)];
        let done = self.command_of(binary, pod, &["drain", "--timeout", seconds], &more).output().unwrap();
        (
            done.status.code(),
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)),
        )
    }

    /// A command in the pod's namespace.
    pub fn command(&self, name: &str, arguments: &[&str], more: &[(&str, &str)]) -> Command {
        self.command_of(Path::new(BINARY), name, arguments, more)
    }

    fn command_of(&self, binary: &Path, name: &str, arguments: &[&str], more: &[(&str, &str)]) -> Command {
        let (disk, own) = (self.lab.path("disk"), self.disk_of(name));
        for below in ["worktrees", "tmp", "home"] {
            std::fs::create_dir_all(own.join(below)).unwrap();
        }
        let mut command = Command::new("unshare");
        command
            .args(["-m", "--propagation", "private", "sh", "-c", "mount --bind \"$0\" \"$1\" && shift && exec \"$@\""])
            .args([&own, &disk])
            .arg(binary)
            .args(arguments)
            .env_clear()
            .envs(&self.lab.variables)
            .env("AGENTICORE_POD_NAME", name)
            .envs(more.iter().copied());
        command
    }

    pub fn disk_of(&self, name: &str) -> PathBuf {
        self.lab.path(&format!("disk-{name}"))
    }

    /// A job on the repository that says and does `task`.
    pub fn job(&self, task: impl Into<String>) -> Value {
        json!({"task": task.into(), "repo_url": self.github.repo_url(SLUG)})
    }

    pub fn job_files(&self, below: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.lab.path("shared/job-state").join(below)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(".json")).collect()
    }

    /// The ledger adds up: every accepted job has one end, in its file and in Redis alike; every PR is
    /// named by one record; a success with a change names its PR; nothing is in the queue.
    pub fn check_ledger(&self, server: &Server, accepted: &[String]) -> Vec<Value> {
        let jobs: Vec<Value> = accepted.iter().map(|id| server.wait(id)).collect();
        let pulls = self.github.pulls();
        let named: BTreeSet<String> = pulls.iter().map(|pull| pull["html_url"].as_str().unwrap().to_owned()).collect();
        let mut of_jobs = BTreeSet::new();
        for job in &jobs {
            let id = job["id"].as_str().unwrap();
            let file = self.lab.path(&format!("shared/job-state/{id}.json"));
            let file: Value = serde_json::from_slice(&std::fs::read(&file).expect("an ended file")).unwrap();
            assert_eq!(file["status"], job["status"], "file and Redis agree: {job:#}");
            if let Some(url) = job["pr_url"].as_str() {
                assert!(of_jobs.insert(url.to_owned()), "one PR, two jobs: {job:#}");
                assert!(named.contains(url), "a PR that GitHub does not have: {job:#}");
            } else if job["status"] == "succeeded" && !job["branch"].is_null() {
                assert!(job["note"].is_string() || job["error"].is_string(), "no PR and no word why: {job:#}");
            }
            let branch = format!("agenticore-{}", &id[..8]);
            let of_branch: Vec<&Value> = pulls.iter().filter(|pull| pull["head"] == branch.as_str()).collect();
            assert!(of_branch.len() <= 1, "two PRs of one job: {job:#}");
            // A request that was under way when the job was cancelled, or lost its last worker, may land:
            // then the record names it by its branch.
            if let ([pull], true, true) = (&of_branch[..], job["pr_url"].is_null(), job["status"] != "succeeded") {
                of_jobs.insert(pull["html_url"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(named, of_jobs, "PRs that no record names");
        eventually("the lists are empty", || {
            let lists = ["agenticore:queue", "agenticore:running"];
            lists.iter().all(|list| self.redis.try_ask::<usize>(&["LLEN", list]).is_ok_and(|n| n == 0)).then_some(())
        });
        eventually("no job is open", || self.job_files("open").is_empty().then_some(()));
        jobs
    }

    /// Stops the server; what it left is not looked at.
    pub fn finish_quietly(&self, server: Server) {
        assert_eq!(server.stop(), Some(0));
    }

    /// Stops the servers and looks for what is left over.
    pub fn finish(self, servers: Vec<Server>) {
        for server in servers {
            let log = server.log();
            assert_eq!(server.stop(), Some(0), "{log}");
        }
        self.github.assert_content();
        self.lab.assert_no_process_but("redis-server");
        let disks = std::fs::read_dir(self.lab.dir.path()).unwrap().flatten().map(|entry| entry.path());
        for disk in disks.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("disk-")) {
            let left = std::fs::read_dir(disk.join("worktrees")).unwrap().flatten();
            let left = left.map(|entry| entry.file_name().to_string_lossy().into_owned());
            let pod = disk.file_name().unwrap().to_string_lossy().replacen("disk-", "", 1);
            // One with work in it that was not published stays, and the record says where.
            let is_kept = |id: &String| {
                let file = std::fs::read(self.lab.path(&format!("shared/job-state/{id}.json"))).unwrap_or_default();
                let record: Value = serde_json::from_slice(&file).unwrap_or_default();
                record["worktree_path"].is_string() && record["worktree_on"] == pod.as_str()
            };
            let left: Vec<String> = left.filter(|name| !name.starts_with('.') && !is_kept(name)).collect();
            assert!(left.is_empty(), "worktrees are left: {left:?}");
        }
    }
}

/// The numbers of the attempts in a job's events, in order.
pub fn stream(redis: &Redis, id: &str) -> Vec<Value> {
    let found: Vec<(String, Vec<String>)> = redis.ask(&["XRANGE", &format!("agenticore:events:{id}"), "-", "+"]);
    found.iter().map(|(_, fields)| serde_json::from_str(&fields[1]).unwrap()).collect()
}
