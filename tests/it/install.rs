//! What an installation meets on its first day: nothing configured yet, no login, volumes of others, and what
//! Kubernetes or the Python program left lying about.

use crate::support::fleet::Fleet;
use crate::support::{Lab, Server, eventually, scripted_agent};
use serde_json::json;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::Duration;

fn entries(path: std::path::PathBuf) -> Vec<String> {
    let found = std::fs::read_dir(path).into_iter().flatten().flatten();
    found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn without_a_redis_the_server_stays_up_and_says_what_to_create() {
    let lab = Lab::new().with("AGENTICORE_STORE", "redis").with("AGENTICORE_SECRET_NAME", "my-secret");
    let lab = lab.with("AGENTICORE_SHARED_FS_ROOT", "/nonexistent/shared");
    let server = lab.serve();
    assert_eq!(server.get("/health").0, 200);
    for (status, answer) in [server.get("/ready"), server.post(&json!({"task": "t"})), server.get("/jobs")] {
        let said = answer.to_string();
        assert_eq!(status, 503, "{said}");
        assert!(said.contains("`redis-url` in the Secret `my-secret`"), "{said}");
    }
    let mut command = lab.command(&["status"]);
    let said = command.env("AGENTICORE_PORT", server.port()).output().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).contains("redis-url"), "{said:?}");
    let alive = lab.command(&["status", "--alive"]).env("AGENTICORE_PORT", server.port()).output().unwrap();
    assert_eq!((alive.status.code(), alive.stdout.len(), alive.stderr.len()), (Some(0), 0, 0));
    assert!(server.log().contains("redis-url"), "{}", server.log());
    assert_eq!(server.stop(), Some(0));
    for place in ["jobs", "repos", "worktrees", "tmp", "home"] {
        assert_eq!(entries(lab.path(place)), Vec::<String>::new(), "{place}");
    }
    let dead = lab.command(&["status", "--alive"]).env("AGENTICORE_PORT", "1").output().unwrap();
    assert_eq!(dead.status.code(), Some(6));
}

#[test]
fn a_server_with_no_room_takes_jobs_and_needs_neither_git_nor_claude() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "0").with("PATH", "/nonexistent");
    let lab = lab.with("AGENTICORE_CLAUDE_BINARY", "claude");
    let server = lab.serve();
    let id = server.submit(json!({"task": "t"}));
    assert_eq!(server.get("/ready").0, 200);
    assert!(server.log().contains("with 0 workers"), "{}", server.log());
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(server.job(&id)["status"], "queued");
    assert_eq!(server.stop(), Some(0));
    let lab = lab.with("AGENTICORE_MAX_PARALLEL_JOBS", "1").with("PATH", std::env::var("PATH").unwrap());
    let lab = lab.with("AGENTICORE_CLAUDE_BINARY", scripted_agent().display().to_string());
    let server = lab.serve();
    assert_eq!(server.wait(&id)["status"], "succeeded");
    server.stop();
}

/// The scripted agent, under the name by which Claude is known.
fn as_claude(lab: Lab) -> Lab {
    let path = lab.path("claude");
    symlink(scripted_agent(), &path).unwrap();
    lab.with("AGENTICORE_CLAUDE_BINARY", path.display().to_string())
}

#[test]
fn without_a_login_a_job_waits_and_says_for_what() {
    let lab = as_claude(Lab::new());
    let server = lab.serve();
    let waiting = server.submit(json!({"task": "[[say done]]"}));
    // The self-test needs none, and is not held up by those that do.
    let test = server.run(json!({"task": "is all well?", "profile": "self-test", "repo_url": lab.repo().url()}));
    assert_eq!((&test["status"], &test["attempt"]), (&json!("succeeded"), &json!(1)), "{test:#}");
    assert!(test["output"].as_str().unwrap().contains("can be written"), "{test:#}");
    let job = server.job(&waiting);
    assert_eq!(job["status"], "queued");
    assert!(job["waiting_for"].as_str().unwrap().contains("set ANTHROPIC_API_KEY"), "{job:#}");
    assert_eq!(server.get("/ready").0, 200, "jobs are taken in");
    let port = server.port();
    let with_port = |arguments: &[&str]| {
        let mut command = lab.command(arguments);
        command.env("AGENTICORE_PORT", &port);
        command
    };
    let said = with_port(&["status"]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.code() == Some(1) && text.contains("runs no jobs at"), "{said:?}");
    let line = text.lines().find(|line| line.starts_with("warn login")).unwrap_or_default();
    assert!(line.contains("ANTHROPIC_API_KEY"), "{said:?}");
    let mut waits = with_port(&["run", "[[say x]]", "--wait"]);
    let mut waits = waits.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut told = std::io::BufReader::new(waits.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waits for a login for Claude") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut told, &mut line).unwrap() > 0, "it never said so");
    }
    waits.kill().unwrap();
    waits.wait().unwrap();
    let local = lab.run(&["run", "--local", "[[say x]]"]);
    assert_eq!(local.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&local.stderr).contains("a login for Claude"), "{local:?}");
    let tested = lab.run(&["run", "--local", "here?", "--profile", "self-test"]);
    assert_eq!(tested.status.code(), Some(0), "{tested:?}");
    server.stop();
    let lab = lab.with("AGENTICORE_ANTHROPIC_CREDENTIAL", "sk-ant-api03-made-up\n");
    let server = lab.serve();
    let job = server.wait(&waiting);
    assert_eq!((&job["status"], &job["waiting_for"]), (&json!("succeeded"), &json!(null)), "{job:#}");
    server.stop();
}

#[test]
fn without_a_login_a_worktree_is_prepared_all_the_same() {
    let lab = as_claude(Lab::new());
    let repo = lab.repo();
    let server = lab.serve();
    let waits = server.submit(json!({"task": "x"}));
    let body = json!({"repo_url": repo.url()});
    let (status, answer) = server.send("/worktrees", &[], &body.to_string());
    assert_eq!((status, &answer["worktree"]["status"]), (200, &json!("ready")), "{answer}");
    assert_eq!(server.job(&waits)["status"], "queued");
    server.stop();
}

#[test]
fn without_a_login_a_job_expires_when_its_time_is_over() {
    let lab = as_claude(Lab::new()).with("AGENTICORE_JOB_TTL", "1");
    let server = lab.serve();
    let id = server.submit(json!({"task": "t"}));
    eventually("it is expired, or gone", || {
        let (status, answer) = server.get(&format!("/jobs/{id}"));
        (status == 404 || answer["job"]["status"] == "expired").then_some(())
    });
    server.stop();
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_stop_nobody() {
    let mut lab = Lab::new();
    for (name, value) in [
        ("AGENTICORE_SERVICE_HOST", "10.96.12.7"),
        ("AGENTICORE_SERVICE_PORT", "8200"),
        ("AGENTICORE_SERVICE_PORT_HTTP", "8200"),
        ("AGENTICORE_PORT_8200_TCP", "tcp://10.96.12.7:8200"),
        ("AGENTICORE_PORT_8200_TCP_PROTO", "tcp"),
        ("AGENTICORE_PORT_8200_TCP_PORT", "8200"),
        ("AGENTICORE_PORT_8200_TCP_ADDR", "10.96.12.7"),
        ("REDIS_PORT", "tcp://10.96.12.8:6379"),
    ] {
        lab.set(name, value);
    }
    // The port itself is the tests' own here; as a setting it is tried in src/config.
    let server = lab.serve();
    assert!(!server.log().contains("warn"), "{}", server.log());
    server.stop();
    let said = lab.command(&["config", "--json"]).env("AGENTICORE_PORT", "tcp://10.96.12.7:8200").output().unwrap();
    assert_eq!((said.status.code(), said.stderr.len()), (Some(0), 0), "{said:?}");
}

#[test]
fn a_server_open_to_all_says_so() {
    let server = Lab::new().with("AGENTICORE_HOST", "0.0.0.0").with("GITHUB_TOKEN", "ghs_made-up").serve();
    eventually("it warns", || server.log().contains("can run code here with this server's GitHub token").then_some(()));
    server.stop();
    let server = Lab::new().with("AGENTICORE_HOST", "0.0.0.0").with("AGENTICORE_API_KEYS", "k").serve();
    assert!(!server.log().contains("can run code"));
    server.stop();
}

/// None, and a loud word, where this is not root with setpriv.
fn as_user(uid: &str, command: Command) -> Option<Command> {
    let can = Command::new("setpriv").args(["--reuid=65532", "--regid=0", "--clear-groups", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI runs as root, with setpriv");
        eprintln!("SKIPPED: this test needs root and setpriv");
        return None;
    }
    let mut other = Command::new("setpriv");
    other.args([format!("--reuid={uid}").as_str(), "--regid=0", "--clear-groups"]).arg(command.get_program());
    other.args(command.get_args()).env_clear().current_dir("/");
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(other)
}

#[test]
fn a_volume_of_another_user_is_named_with_its_owner_and_what_to_do() {
    let lab = Lab::new();
    let copy = lab.path("bin");
    std::fs::copy(crate::support::BINARY, &copy).unwrap();
    std::fs::set_permissions(lab.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // As the Python program left it: made by uid 1000.
    let owned = Command::new("chown").arg("-R").arg("1000:1000").arg(lab.dir.path()).status().unwrap();
    std::fs::create_dir_all(lab.path("repos/0123456789ab")).unwrap();
    if !owned.success() {
        eprintln!("SKIPPED: chown needs root");
        return;
    }
    let command = |uid| {
        let mut command = Command::new(&copy);
        command.arg("serve").env_clear().envs(&lab.variables);
        as_user(uid, command)
    };
    let Some(mut refused) = command("65532") else { return };
    let said = refused.output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(
        text.contains("belongs to uid 1000") && text.contains("runAsUser=1000") && text.contains("uid 65532"),
        "{text}"
    );
    // Its owner is served, but for what somebody else made below: that is named too.
    let said = command("1000").unwrap().output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(text.contains("repos/0123456789ab belongs to root") && text.contains("chown 1000:0"), "{text}");
    Command::new("chown").arg("1000").arg(lab.path("repos/0123456789ab")).status().unwrap();
    let server = Server::start(command("1000").unwrap());
    assert_eq!(server.stop(), Some(0));
    // P10: one file of another user's among its own.
    let ended = lab.path(&format!("jobs/{OLD}.json"));
    std::fs::write(&ended, old_job(OLD, "succeeded")).unwrap();
    std::fs::set_permissions(&ended, std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start(command("1000").unwrap());
    let (status, answer) = server.get(&format!("/jobs/{OLD}"));
    let told = format!("{answer} {}", server.log());
    assert!(told.contains("belongs to uid 0, mode 0600, and this is uid 1000"), "{status} {told}");
    assert_eq!(server.stop(), Some(0));
}

const OLD: &str = "11111111-2222-4333-8444-555555555555";
const OLD_RUNNING: &str = "11111111-2222-4333-8444-666666666666";

fn old_job(id: &str, status: &str) -> String {
    json!({
        "id": id, "repo_url": "", "base_ref": "main", "task": "an old task", "profile": "code", "status": status,
        "mode": "fire_and_forget", "output": "it went well", "created_at": "2024-05-01T10:00:00.123456+00:00",
        "ended_at": "2024-05-01T10:01:00+00:00", "ttl_seconds": 86400, "pod_name": "agenticore-1", "worktree_path": "",
        "job_config_dir": "", "plan_id": "", "worktree_id": "", "file_path": "", "branch": "",
    })
    .to_string()
}

fn check_old(server: &Server, directory: &std::path::Path) {
    let job = eventually("the old job is listed", || {
        let (_, list) = server.get("/jobs?status=succeeded");
        list["jobs"].as_array()?.iter().find(|job| job["id"] == OLD).cloned()
    });
    assert_eq!((&job["task"], &job["output"]), (&json!("an old task"), &json!("it went well")));
    assert_eq!(server.job(&OLD[..8])["status"], "succeeded");
    assert_eq!(server.get(&format!("/jobs/{OLD_RUNNING}")).0, 404, "it runs nowhere");
    assert_eq!(server.run(json!({"task": "[[say new]]"}))["status"], "succeeded");
    // Its time to live was over long ago; nobody said that it may go.
    std::thread::sleep(Duration::from_millis(2500));
    for (id, status) in [(OLD, "succeeded"), (OLD_RUNNING, "running")] {
        let kept = std::fs::read_to_string(directory.join(format!("{id}.json"))).unwrap();
        assert_eq!(kept, old_job(id, status));
    }
}

#[test]
fn what_the_python_program_left_is_shown_and_left_alone() {
    let lab = Lab::new();
    std::fs::write(lab.path("jobs").join(format!("{OLD}.json")), old_job(OLD, "succeeded")).unwrap();
    std::fs::write(lab.path("jobs").join(format!("{OLD_RUNNING}.json")), old_job(OLD_RUNNING, "running")).unwrap();
    lab.profile("theirs", "name: theirs\ndescription: of old\nlabels: [x]\nclaude:\n  model: haiku\n");
    let server = lab.serve();
    check_old(&server, &lab.path("jobs"));
    let (_, profiles) = server.get("/profiles");
    assert!(profiles.to_string().contains("of old"), "{profiles}");
    server.stop();
}

#[test]
fn in_a_fleet_too_what_the_python_program_left_is_shown_and_left_alone() {
    let Some(fleet) = Fleet::new() else { return };
    let directory = fleet.lab.path("shared/job-state");
    std::fs::create_dir_all(&directory).unwrap();
    let key = format!("agenticore:job:{OLD}");
    for (id, status) in [(OLD, "succeeded"), (OLD_RUNNING, "running")] {
        std::fs::write(directory.join(format!("{id}.json")), old_job(id, status)).unwrap();
        let key = format!("agenticore:job:{id}");
        let _: i64 = fleet.redis.ask(&["HSET", &key, "id", id, "status", status, "task", "an old task"]);
        let _: i64 = fleet.redis.ask(&["EXPIRE", &key, "86400"]);
    }
    // Jobs that waited there, and what no release of ours would put into the queue.
    let waiting: Vec<String> = (0..30).map(|n| format!("22222222-2222-4333-8444-{n:012}")).collect();
    for id in &waiting {
        let key = format!("agenticore:job:{id}");
        let _: i64 = fleet.redis.ask(&["HSET", &key, "id", id, "status", "queued", "task", "an old task"]);
        let _: i64 = fleet.redis.ask(&["LPUSH", "agenticore:queue", id]);
    }
    let _: i64 = fleet.redis.ask(&["LPUSH", "agenticore:queue", "{\"job_id\": \"x\"}"]);
    // A file that names another job is nobody's record.
    let copied = "33333333-2222-4333-8444-555555555555";
    std::fs::write(directory.join(format!("{copied}.json")), old_job(OLD, "failed")).unwrap();
    let shared = fleet.lab.path("shared/profiles/of-all");
    std::fs::create_dir_all(&shared).unwrap();
    std::fs::write(shared.join("profile.yml"), "description: shared by all\n").unwrap();
    let server = fleet.pod("agenticore-0");
    check_old(&server, &directory);
    assert!(server.get("/profiles").1.to_string().contains("shared by all"));
    assert_eq!(server.get(&format!("/jobs/{copied}")).0, 404);
    eventually("what is not ours was put aside", || {
        (fleet.redis.ask::<i64>(&["LLEN", "agenticore:foreign"]) == 31).then_some(())
    });
    for list in ["queue", "running"] {
        assert_eq!(fleet.redis.ask::<i64>(&["LLEN", &format!("agenticore:{list}")]), 0, "{list}");
    }
    let fields: Vec<String> = fleet.redis.ask(&["HKEYS", &format!("agenticore:job:{}", waiting[0])]);
    assert_eq!(fields, ["id", "status", "task"], "their hash is as it was");
    let fields: Vec<String> = fleet.redis.ask(&["HKEYS", &key]);
    assert_eq!(fields, ["id", "status", "task"], "their hash is as it was");
    assert!(fleet.redis.ask::<i64>(&["TTL", &key]) > 80_000);
    assert_eq!(entries(fleet.lab.path("shared")).len(), 5, "the layout, and the lock");
    fleet.finish(vec![server]);
}

/// A volume without hard links, whose files are all another uid's and whose modes nobody can change.
struct PlainVolume(std::process::Child, std::path::PathBuf);

impl PlainVolume {
    /// Mounts it at `place`, which it makes. None, and a loud word, where FUSE is not to be had.
    fn mount(lab: &Lab, place: &std::path::Path, more: &str) -> Option<Self> {
        let program = lab.path("plain_fs");
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/plain_fs.c");
        let build = "cc -O1 \"$0\" -o \"$1\" $(pkg-config --cflags --libs fuse3)";
        let built = Command::new("sh").args(["-ec", build]).args([&source, &program]).output().unwrap();
        if !built.status.success() || !std::path::Path::new("/dev/fuse").exists() {
            assert!(std::env::var_os("CI").is_none(), "CI has FUSE: {built:?}");
            eprintln!("SKIPPED: this machine has no FUSE");
            return None;
        }
        let real = lab.path("plain-volume");
        std::fs::create_dir_all(&real).unwrap();
        std::fs::create_dir_all(place).unwrap();
        let options = format!("source={},uid=50000,allow_other,attr_timeout=0,entry_timeout=0{more}", real.display());
        let mut command = Command::new(&program);
        command.arg("-f").arg("-o").arg(options).arg(place).stderr(std::process::Stdio::null());
        let child = command.spawn().unwrap();
        let is_mounted = || std::fs::read_to_string("/proc/mounts").unwrap().contains(place.to_str().unwrap());
        eventually("it is mounted", || is_mounted().then_some(()));
        Some(Self(child, place.to_owned()))
    }
}

impl Drop for PlainVolume {
    fn drop(&mut self) {
        let _ = Command::new("fusermount3").arg("-uz").arg(&self.1).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_whole_job_runs_on_a_volume_without_links_that_belongs_to_another() {
    let Some(mut fleet) = Fleet::new() else { return };
    let shared = fleet.lab.path("shared");
    let Some(_volume) = PlainVolume::mount(&fleet.lab, &shared, "") else { return };
    // The disk of a pod may be such a volume too, and then so are its worktrees.
    fleet.lab.set("AGENTICORE_WORKTREE_ROOT", shared.join("worktrees").display().to_string());
    let server = fleet.pod("agenticore-0");
    assert!(server.log().contains("no hard links"), "{}", server.log());
    let task = "[[bash git status && git log -1 --format=%an && git -C . rev-parse --git-common-dir]] [[write a.txt 1]] [[commit one]] \
                [[write b.txt 2]]";
    let ids: Vec<String> = (0..4).map(|_| server.submit(fleet.job(task))).collect();
    for id in &ids {
        let job = server.wait(id);
        assert_eq!((&job["status"], &job["error"]), (&json!("succeeded"), &json!(null)), "{job:#}");
        assert!(job["pr_url"].is_string(), "{job:#}");
        let branch = job["branch"].as_str().unwrap();
        assert_eq!(fleet.repo.file(branch, "a.txt").as_deref(), Some("1"));
        let told = crate::support::fleet::stream(&fleet.redis, id);
        let told = serde_json::to_string(&told).unwrap();
        assert!(!told.contains("dubious ownership") && told.contains("On branch"), "{told}");
    }
    // Its end, and no other, stands in the file.
    let cancelled = server.submit(fleet.job("[[sleep 600000]]"));
    eventually("it runs", || (server.job(&cancelled)["status"] == "running").then_some(()));
    server.cancel(&cancelled);
    assert_eq!(server.wait(&cancelled)["status"], "cancelled");
    fleet.check_ledger(&server, &[ids, vec![cancelled]].concat());
    let fit = fleet.command("agenticore-0", &["init-shared-fs"], &[]).output().unwrap();
    assert_eq!(fit.status.code(), Some(0), "{fit:?}");
    assert!(String::from_utf8_lossy(&fit.stdout).contains("azurefile-csi-nfs"), "{fit:?}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_volume_on_which_no_end_can_be_decided_is_refused() {
    let lab = Lab::new();
    let jobs = lab.path("jobs");
    let Some(_volume) = PlainVolume::mount(&lab, &jobs, ",poor=1") else { return };
    let refused = lab.run(&["serve"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("neither hard links nor renames that replace nothing"), "{said}");
    assert!(said.contains("azurefile-csi-nfs"), "{said}");
    let init = lab.run(&["init-shared-fs", "--shared-root", jobs.to_str().unwrap(), "--json"]);
    assert_eq!(init.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&init.stdout).contains("\"fit\": false"), "{init:?}");
}
