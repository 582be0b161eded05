//! Faults of one key, one clock, one record, one user of Redis: each concerns itself alone (Q4, Q12 to Q19).

use crate::support::fleet::Fleet;
use crate::support::{Lab, eventually};
use serde_json::json;
use std::process::Command;

/// Q4: all queued jobs expired within seconds, and the ended ones were forgotten with their files.
#[test]
fn a_pod_with_a_wrong_clock_harms_nobodys_jobs() {
    let Some(fleet) = Fleet::new() else { return };
    for days in [2, -2] {
        let well = fleet.pod_with("well", &[("AGENTICORE_MAX_PARALLEL_JOBS", "1")]);
        let gate = fleet.lab.path(&format!("gate{days}"));
        let ended = well.run(fleet.job(format!("[[write {days}.txt x]]")));
        let running = well.submit(fleet.job(format!("[[wait-for {}]] [[say done]]", gate.display())));
        eventually("it runs", || (well.job(&running)["status"] == "running").then_some(()));
        let queued = well.submit(fleet.job("[[say later]]"));
        let wrong = fleet.pod_with("wrong", &[("AGENTICORE_TEST_CLOCK", &(days * 86_400).to_string())]);
        let why = eventually("it says so", || {
            let (status, ready) = wrong.get("/ready");
            (status == 503).then(|| ready["waiting_for"].as_str().unwrap_or_default().to_owned())
        });
        assert!(why.contains("clock") && why.contains("NTP"), "{why}");
        // It can be asked, and takes jobs in by the fleet's time.
        let by_it = wrong.submit(fleet.job("[[say by the wrong one]]"));
        std::thread::sleep(std::time::Duration::from_secs(4));
        assert_eq!((&well.job(&queued)["status"], &well.job(&by_it)["status"]), (&json!("queued"), &json!("queued")));
        assert_eq!(well.job(ended["id"].as_str().unwrap())["status"], "succeeded");
        std::fs::write(&gate, "").unwrap();
        for id in [&running, &queued, &by_it] {
            let job = well.wait(id);
            assert_eq!((&job["status"], &job["pod_name"]), (&json!("succeeded"), &json!("well")), "{job:#}");
        }
        wrong.stop();
        well.stop();
    }
}

/// Q12 and Q13: a string at a job's key, and a record that is none, stopped every takeover.
#[test]
fn a_key_that_holds_something_else_concerns_its_job_alone() {
    let Some(fleet) = Fleet::new() else { return };
    let (one, two) = (fleet.pod_with("one", &[("AGENTICORE_MAX_PARALLEL_JOBS", "4")]), fleet.pod("two"));
    let gate = fleet.lab.path("gate");
    let task = format!("[[wait-for {}]] [[say done]]", gate.display());
    // They run on the one pod; the other is drained meanwhile.
    two.request("POST", "/admin/drain?timeout=600", None);
    eventually("it drains", || two.get("/admin/drain").1["draining"].as_bool().filter(|drains| *drains));
    let ids: Vec<String> = (0..4).map(|_| one.submit(fleet.job(task.clone()))).collect();
    for id in &ids {
        eventually("it runs", || (one.job(id)["status"] == "running").then_some(()));
    }
    let queued = one.submit(fleet.job("[[say later]]"));
    two.request("DELETE", "/admin/drain", None);
    one.kill();
    let key = |id: &str| format!("agenticore:job:{id}");
    let redis = &fleet.redis;
    redis.ask::<()>(&["SET", &key(&ids[0]), "something else"]);
    redis.ask::<i64>(&["HSET", &key(&ids[1]), "record", "{}"]);
    redis.ask::<i64>(&["HSET", &key(&ids[2]), "record", "\u{0}no json"]);
    std::fs::write(&gate, "").unwrap();
    for id in ids.iter().chain([&queued]) {
        let job = two.wait(id);
        assert_eq!((&job["status"], &job["pod_name"]), (&json!("succeeded"), &json!("two")), "{job:#}");
    }
    assert_eq!(redis.ask::<String>(&["GET", &format!("agenticore:foreign:job:{}", ids[0])]), "something else");
    assert!(two.log().contains("was put aside in"), "{}", two.log());
    // While it runs too.
    let second = fleet.lab.path("second");
    let id = two.submit(fleet.job(format!("[[wait-for {}]] [[say done]]", second.display())));
    eventually("it runs", || (two.job(&id)["status"] == "running").then_some(()));
    redis.ask::<i64>(&["DEL", &key(&id)]);
    redis.ask::<()>(&["SET", &key(&id), "x"]);
    eventually("it is put back", || redis.ask::<String>(&["TYPE", &key(&id)]).contains("hash").then_some(()));
    std::fs::write(&second, "").unwrap();
    let job = two.wait(&id);
    assert_eq!((&job["status"], &job["deaths"]), (&json!("succeeded"), &json!(0)), "{job:#}");
    two.stop();
}

/// Q14: a forgotten job came back and ran again.
#[test]
fn a_job_that_was_forgotten_while_a_pod_slept_does_not_come_back() {
    let Some(fleet) = Fleet::new() else { return };
    let slept = fleet.pod_with("slept", &[("AGENTICORE_TEST_STOP_AT", "claimed:after-record")]);
    let id = slept.submit(fleet.job("[[write once.txt x]]"));
    eventually("it sleeps", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", slept.child.id())).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')).then_some(())
    });
    let other = fleet.pod("other");
    let job = other.wait(&id);
    assert_eq!((&job["status"], &job["pod_name"]), (&json!("succeeded"), &json!("other")), "{job:#}");
    eventually("its open file is gone", || fleet.job_files("open").is_empty().then_some(()));
    // Its time to live is over meanwhile: nothing is left of it anywhere.
    std::fs::remove_file(fleet.lab.path(&format!("shared/job-state/{id}.json"))).unwrap();
    fleet.redis.ask::<i64>(&["DEL", &format!("agenticore:job:{id}"), &format!("agenticore:lease:{id}")]);
    slept.signal("CONT");
    let next = slept.run(fleet.job("[[say awake]]"));
    assert_eq!(next["status"], "succeeded");
    let (status, found) = slept.get(&format!("/jobs/{id}"));
    assert_eq!(status, 404, "{found:#} {}", slept.log());
    slept.stop();
    other.stop();
}

/// Q15
#[test]
fn a_grace_that_is_too_short_for_the_renewals_is_refused() {
    let lab = Lab::new().with("REDIS_URL", "redis://127.0.0.1:1").with("AGENTICORE_REAP_GRACE", "3");
    let refused = lab.run(&["serve"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("AGENTICORE_REAP_GRACE"), "{said}");
    assert!(said.contains("at least twice as long"), "{said}");
}

/// Q16: what could not be handed back at an end in order was counted as a death.
#[test]
fn an_end_in_order_on_a_full_disk_is_no_death_and_keeps_the_order() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "2");
    let jobs = lab.path("jobs");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=400k", "none"]).arg(&jobs).status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a tmpfs");
        eprintln!("SKIPPED an_end_in_order_on_a_full_disk_is_no_death: cannot mount a tmpfs");
        return;
    }
    struct Unmount(std::path::PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
        }
    }
    let _unmount = Unmount(jobs.clone());
    let order = lab.path("order");
    let server = lab.serve();
    let task = |n: usize| format!("[[bash echo {n} >> {}]] [[sleep 600000]]", order.display());
    let ids: Vec<String> = (0..4).map(|n| server.submit(json!({"task": task(n)}))).collect();
    for id in &ids[..2] {
        eventually("it runs", || (server.job(id)["status"] == "running").then_some(()));
    }
    let ballast = jobs.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    while std::io::Write::write_all(&mut file, &[0]).is_ok() {}
    server.stop();
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    let server = lab.serve();
    for id in &ids[..2] {
        let job = eventually("it runs again", || Some(server.job(id)).filter(|job| job["status"] == "running"));
        assert_eq!((&job["attempt"], &job["deaths"]), (&json!(2), &json!(0)), "{job:#}");
    }
    assert_eq!(server.job(&ids[2])["status"], "queued", "the order is kept");
    ids.iter().for_each(|id| drop(server.cancel(id)));
    server.stop();
}

/// Q18: innocents ended failed with the poison beside them.
#[test]
fn a_job_that_kills_its_server_takes_no_other_with_it() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "3");
    let (gate, kill) = (lab.path("gate"), lab.path("kill"));
    let mut server = lab.serve();
    let innocent = format!("[[wait-for {}]] [[say well]]", gate.display());
    let innocents: Vec<String> = (0..2).map(|_| server.submit(json!({"task": innocent}))).collect();
    for id in &innocents {
        eventually("it runs", || (server.job(id)["status"] == "running").then_some(()));
    }
    let poison = server.submit(json!({"task": format!("[[bash touch {}]] [[sleep 600000]]", kill.display())}));
    let mut deaths = 0;
    loop {
        let begun = eventually("it runs, or has ended", || {
            let ended = server.job(&poison)["status"] == "failed";
            (kill.exists() || ended).then_some(!ended)
        });
        if !begun {
            break;
        }
        deaths += 1;
        assert!(deaths <= 4, "{:#}", server.job(&poison));
        std::fs::remove_file(&kill).unwrap();
        server.kill();
        // From the second time on it runs by itself, after those that wait for a sign.
        std::fs::write(&gate, "").unwrap();
        server = lab.serve();
    }
    let job = server.wait(&poison);
    assert_eq!((&job["status"], &job["deaths"]), (&json!("failed"), &json!(3)), "{job:#}");
    assert_eq!(deaths, 4, "the first was shared");
    for id in &innocents {
        let job = server.wait(id);
        assert_eq!((&job["status"], &job["deaths"]), (&json!("succeeded"), &json!(0)), "{job:#}");
    }
    server.stop();
}

/// The same on two pods: the one that dies with several of them names none.
#[test]
fn deaths_that_are_shared_on_a_pod_count_for_nobody() {
    let Some(fleet) = Fleet::new() else { return };
    let first = fleet.pod_with("first", &[("AGENTICORE_MAX_PARALLEL_JOBS", "3")]);
    let gate = fleet.lab.path("gate");
    let task = format!("[[wait-for {}]] [[say well]]", gate.display());
    let ids: Vec<String> = (0..3).map(|_| first.submit(fleet.job(task.clone()))).collect();
    for id in &ids {
        eventually("it runs", || (first.job(id)["status"] == "running").then_some(()));
    }
    let second = fleet.pod("second");
    first.kill();
    std::fs::write(&gate, "").unwrap();
    for id in &ids {
        let job = second.wait(id);
        assert_eq!((&job["status"], &job["deaths"], &job["attempt"]), (&json!("succeeded"), &json!(0), &json!(2)));
    }
    second.stop();
}

/// Q19: a user of Redis that may not ask for INFO.
#[test]
fn a_redis_user_without_info_will_do() {
    let Some(fleet) = Fleet::new() else { return };
    let rules = ["ACL", "SETUSER", "plain", "on", ">secret", "~*", "&*", "+@all", "-info"];
    fleet.redis.ask::<String>(&rules);
    let user = [("REDIS_USERNAME", "plain"), ("REDIS_PASSWORD", "secret")];
    let pod = fleet.pod_with("plain", &user);
    assert_eq!(pod.run(fleet.job("[[write x.txt x]]"))["status"], "succeeded");
    fleet.redis.ask::<String>(&["FLUSHALL"]);
    eventually("what has ended is listed again", || (pod.get("/jobs").1["count"].as_u64() == Some(1)).then_some(()));
    assert!(!pod.log().contains("NOPERM"), "{}", pod.log());
    let doctor = fleet.command("plain", &["doctor"], &user).output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned() + &String::from_utf8_lossy(&doctor.stderr);
    assert!(doctor.status.code() == Some(0) && said.contains("INFO"), "{said}");
    pod.stop();
}
