//! `doctor` on a live system: well it says so; what is planted it finds; what is safe it repairs.

use crate::support::fleet::Fleet;
use crate::support::{Lab, eventually};
use serde_json::{Value, json};
use std::process::Stdio;

fn examine(fleet: &Fleet, more: &[&str]) -> (Option<i32>, Value) {
    let arguments: Vec<&str> = ["doctor", "--json"].iter().chain(more).copied().collect();
    let done = fleet.command("pod-a", &arguments, &[]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let found =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&done.stderr)));
    (done.status.code(), found)
}

fn problems(found: &Value, check: &str) -> Vec<String> {
    let one = found.as_array().unwrap().iter().find(|finding| finding["check"] == check).unwrap();
    one["problems"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_system_at_work_is_well() {
    let Some(fleet) = Fleet::new() else { return };
    let gate = fleet.lab.path("gate");
    let pods = vec![fleet.pod("pod-a"), fleet.pod("pod-b")];
    let done = pods[0].submit(fleet.job("[[write a.txt 1]]"));
    pods[0].wait(&done);
    let ids: Vec<String> =
        (0..8).map(|_| pods[0].submit(fleet.job(format!("[[wait-for {}]]", gate.display())))).collect();
    eventually("six run", || (pods[0].get("/jobs?status=running").1["count"] == 6).then_some(()));
    let (code, found) = examine(&fleet, &[]);
    assert_eq!(code, Some(0), "{found:#}");
    let evidence: Vec<&str> = found.as_array().unwrap().iter().map(|one| one["evidence"].as_str().unwrap()).collect();
    assert!(evidence.iter().any(|text| text.contains("2 wait, 6 run, 8 open files")), "{evidence:?}");
    assert!(evidence.contains(&"6 running jobs"), "{evidence:?}");
    let said = fleet.command("pod-a", &["doctor"], &[]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.ends_with("everything is as it should be\n") && !text.contains('\u{1b}'), "{text}");
    std::fs::write(&gate, "").unwrap();
    fleet.check_ledger(&pods[1], &[ids, vec![done]].concat());
    fleet.finish(pods);
}

#[test]
fn what_is_planted_is_found_and_what_is_safe_is_repaired() {
    let Some(fleet) = Fleet::new() else { return };
    // A server once, so that there is a cache; then nobody who would put things right by himself.
    let pod = fleet.pod("pod-a");
    let ended = pod.submit(fleet.job("[[write a.txt 1]] [[sleep 600000]]"));
    eventually("it has a worktree", || pod.job(&ended)["worktree_path"].is_string().then_some(()));
    pod.cancel(&ended);
    pod.wait(&ended);
    assert_eq!(pod.stop(), Some(0));
    let id = "00000000-0000-4000-8000-000000000001";
    let stray = fleet.disk_of("pod-a").join("worktrees").join(id);
    std::fs::create_dir_all(&stray).unwrap();
    let ask = |words: &[&str]| drop(fleet.redis.ask::<redis::Value>(words));
    ask(&["LPUSH", "agenticore:queue", id, "nonsense"]);
    ask(&["SET", "agenticore:lock:clone:abc", "pod-z/gone/1"]);
    ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    // A branch of a job that was cancelled.
    fleet.repo.git(&["branch", &format!("agenticore-{}", &ended[..8]), "main"]).unwrap();
    let (code, found) = examine(&fleet, &[]);
    assert_eq!(code, Some(1), "{found:#}");
    let places = problems(&found, "every unfinished job in one place");
    assert!(
        places.iter().any(|text| text.contains(id)) && places.iter().any(|text| text.contains("nonsense")),
        "{places:?}"
    );
    assert_eq!(problems(&found, "clone locks").len(), 1, "{found:#}");
    assert!(problems(&found, "Redis throws nothing away")[0].contains("noeviction"), "{found:#}");
    assert!(problems(&found, "worktrees").iter().any(|text| text.contains(id)), "{found:#}");
    assert!(problems(&found, "no branch without its job")[0].contains(&ended), "{found:#}");
    let (code, found) = examine(&fleet, &["--fix"]);
    assert_eq!(code, Some(1), "not all of it is safe to repair: {found:#}");
    // Nothing says whose it is.
    assert!(stray.exists());
    let discarded = fleet.command("pod-a", &["doctor", "--discard", id], &[]).output().unwrap();
    assert!(discarded.status.success() && !stray.exists(), "{discarded:?}");
    assert_eq!(fleet.redis.ask::<usize>(&["LLEN", "agenticore:queue"]), 0);
    ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    fleet.repo.git(&["branch", "-D", &format!("agenticore-{}", &ended[..8])]).unwrap();
    let (code, found) = examine(&fleet, &[]);
    assert_eq!(code, Some(0), "{found:#}");
}

#[test]
fn a_volume_without_hard_links_and_a_redis_that_is_away_are_said() {
    let Some(mut fleet) = Fleet::new() else { return };
    std::fs::create_dir_all(fleet.lab.path("shared/job-state")).unwrap();
    fleet.redis.kill();
    let (code, found) = examine(&fleet, &[]);
    assert_eq!(code, Some(1));
    assert!(problems(&found, "Redis")[0].contains("Redis at"), "{found:#}");
    let lab = Lab::new().with("AGENTICORE_JOBS_DIR", "/proc");
    let done = lab.run(&["doctor"]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.code() == Some(1) && text.contains("WRONG jobs directory"), "{text}");
    // The embedded store, at work and well.
    let lab = Lab::new();
    let server = lab.serve();
    server.run(json!({"task": "[[say x]]"}));
    let done = lab.run(&["doctor"]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.code() == Some(0) && text.contains("0 live, 1 have ended"), "{text}");
    server.stop();
}

/// From one place, all pods: what each lacks, what KEDA has to read, and the jobs that nobody took.
#[test]
fn the_whole_fleet_is_looked_at_from_one_place() {
    let Some(fleet) = Fleet::new() else { return };
    let command = |words: &[&str]| {
        let done = fleet.command("beside", words, &[]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code(), text(&done.stdout), text(&done.stderr))
    };
    let (code, said, _) = command(&["doctor", "--cluster"]);
    assert!(code == Some(1) && said.contains("no pod has said anything lately"), "{said}");
    let well = fleet.pod("well");
    let without = fleet.pod_with("without", &[("AGENTICORE_CLAUDE_BINARY", "/nonexistent/agent")]);
    let said = eventually("each says of itself", || {
        let (_, said, _) = command(&["doctor", "--cluster"]);
        (said.contains("pod well: version") && said.contains("/nonexistent/agent")).then_some(said)
    });
    let line =
        |begin: &str| said.lines().find(|line| line.contains(begin)).unwrap_or_else(|| panic!("{said}")).to_owned();
    assert!(line("pod well:").starts_with("ok") && line("pod well:").contains("0 of 3 slots in use"), "{said}");
    assert!(line("pod without:").starts_with("WRONG"), "{said}");
    assert!(line("claude: `/nonexistent/agent`").contains("AGENTICORE_CLAUDE_BINARY"), "{said}");
    assert!(line("fleet:").contains("2 pods, 0 of 6 slots"), "{said}");
    assert!(line("what to scale on:").contains("`agenticore:queue` (now 0 long)"), "{said}");
    assert!(line("shared volume:").starts_with("ok"), "{said}");
    well.stop();
    // With the one that cannot alone: what waits is told.
    let id = without.submit(fleet.job("[[say x]]"));
    let found = eventually("it waits", || {
        let (code, said, _) = command(&["doctor", "--cluster", "--json"]);
        assert_eq!(code, Some(1));
        let found: Vec<Value> = serde_json::from_str(&said).unwrap();
        let waits = found.iter().find(|one| one["check"] == "jobs that wait")?.clone();
        waits["evidence"].as_str()?.starts_with("1 wait").then_some(waits)
    });
    assert_eq!(found["problems"], json!([]), "it was not tried: its pod lacks what is told there");
    assert_eq!(without.cancel(&id).0, 200);
    without.stop();
    let (code, _, said) = command(&["doctor", "--cluster", "--fix"]);
    assert!(code == Some(2) && said.contains("--cluster repairs nothing"), "{said}");
}
