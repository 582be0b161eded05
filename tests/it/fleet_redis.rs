//! Redis misbehaves: whatever it does, no job is lost, none has two outcomes, and the workers come
//! back by themselves.

use crate::support::fleet::Fleet;
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::{Redis, free_port};
use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// Two pods, two jobs at work on each, more in the queue; then `fault` happens. Afterwards all of them
/// have succeeded, with a pull request each.
fn survives(name: &str, fault: impl FnOnce(&mut Fleet, &[Server])) -> Option<Vec<Value>> {
    survives_over(Fleet::new()?, name, fault)
}

fn survives_over(mut fleet: Fleet, name: &str, fault: impl FnOnce(&mut Fleet, &[Server])) -> Option<Vec<Value>> {
    let more = [("AGENTICORE_MAX_PARALLEL_JOBS", "2")];
    let pods = vec![fleet.pod_with("pod-a", &more), fleet.pod_with("pod-b", &more)];
    let gate = fleet.lab.path("gate");
    let task = |n: usize| format!("[[write n-{n}.txt {n}]] [[wait-for {}]]", gate.display());
    let ids: Vec<String> = (0..7).map(|n| pods[n % 2].submit(fleet.job(task(n)))).collect();
    eventually("four of them run", || (pods[0].get("/jobs?status=running").1["count"] == 4).then_some(()));
    fault(&mut fleet, &pods);
    std::fs::write(&gate, "").unwrap();
    let jobs = fleet.check_ledger(&pods[0], &ids);
    for job in &jobs {
        assert_eq!((&job["status"], &job["error"]), (&json!("succeeded"), &json!(null)), "{name}: {job:#}");
        assert!(job["pr_url"].is_string(), "{name}: {job:#}");
    }
    // A pod that has nothing else to do takes the next one.
    let late = pods[1].run(fleet.job("[[write late.txt 1]]"));
    assert_eq!(late["status"], "succeeded", "{name}: {late:#}");
    assert_eq!((fleet.github.pulls().len(), fleet.repo.branches().len()), (8, 9), "{name}");
    eventually(&format!("{name}: all are listed"), || {
        let listed = pods[0].get("/jobs?limit=20").1;
        assert_eq!(listed["stale"], json!(null), "{name}");
        let there: Vec<&str> =
            listed["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
        ids.iter().all(|id| there.contains(&id.as_str())).then_some(())
    });
    fleet.finish(pods);
    Some(jobs)
}

fn no_deaths(jobs: Option<Vec<Value>>) {
    for job in jobs.into_iter().flatten() {
        assert_eq!(job["deaths"], 0, "what Redis did is no worker's death: {job:#}");
    }
}

#[test]
fn killed_and_restarted_with_its_data() {
    no_deaths(survives("restarted", |fleet, _| {
        fleet.redis.kill();
        std::thread::sleep(Duration::from_millis(300));
        fleet.redis.come_back();
    }));
}

#[test]
fn restarted_without_its_data() {
    no_deaths(survives("restarted empty", |fleet, _| {
        fleet.redis.kill();
        fleet.redis.set_state(None);
        fleet.redis.come_back();
    }));
}

#[test]
fn restarted_with_an_older_state() {
    let Some(fleet) = Fleet::new() else { return };
    let kept = fleet.redis.keep_state();
    // Before anything was submitted: a whole history is gone.
    survives_over(fleet, "rolled back", move |fleet, _| {
        fleet.redis.kill();
        fleet.redis.set_state(Some(&kept));
        fleet.redis.come_back();
    });
    // In the middle of things, with jobs that have ended since.
    survives("rolled back a little", |fleet, pods| {
        let kept = fleet.redis.keep_state();
        let more: Vec<String> = (0..2).map(|n| pods[0].submit(json!({"task": format!("[[say {n}]]")}))).collect();
        pods[1].cancel(&more[0]);
        fleet.redis.kill();
        fleet.redis.set_state(Some(&kept));
        fleet.redis.come_back();
        eventually("the cancelled one is known", || {
            let (status, answer) = pods[1].get(&format!("/jobs/{}", more[0]));
            (status == 200 && answer["job"]["status"] == "cancelled" && answer["stale"].is_null()).then_some(())
        });
        pods[1].cancel(&more[1]);
    });
}

/// One pod alone: Redis comes back with an attempt that this pod has long given back, and another since.
#[test]
fn rolled_back_over_an_attempt_of_the_same_pod() {
    let Some(mut fleet) = Fleet::new() else { return };
    let (count, gate) = (fleet.lab.path("count"), fleet.lab.path("gate"));
    let pod = fleet.pod("pod-a");
    let task = format!("[[count {}]] [[write a.txt 1]] [[wait-for {}]]", count.display(), gate.display());
    let id = pod.submit(fleet.job(task));
    let runs = |times: usize| {
        eventually("its agent runs", || {
            (std::fs::read_to_string(&count).unwrap_or_default().lines().count() == times).then_some(())
        })
    };
    runs(1);
    let kept = fleet.redis.keep_state();
    pod.request("POST", "/admin/drain?timeout=0", None);
    eventually("it is given back", || (pod.job(&id)["status"] == "queued").then_some(()));
    pod.request("DELETE", "/admin/drain", None);
    runs(2);
    fleet.redis.kill();
    fleet.redis.set_state(Some(&kept));
    fleet.redis.come_back();
    std::fs::write(&gate, "").unwrap();
    let job = &fleet.check_ledger(&pod, &[id])[0];
    assert_eq!((&job["status"], &job["deaths"]), (&json!("succeeded"), &json!(0)), "{job:#}");
    fleet.finish(vec![pod]);
}

/// Redis alone held the job, and lost what an attempt had achieved: its branch is on the remote already.
#[test]
fn a_branch_of_a_forgotten_attempt_is_adopted() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.repo.git(&["branch", "-m", "main", "trunk"]).unwrap();
    fleet.repo.git(&["symbolic-ref", "HEAD", "refs/heads/trunk"]).unwrap();
    let jobs = fleet.lab.path("disk/jobs").display().to_string();
    fleet.lab.set("AGENTICORE_JOBS_DIR", jobs);
    let (count, gate) = (fleet.lab.path("count"), fleet.lab.path("gate"));
    let mut first = fleet.pod_with("pod-a", &[("AGENTICORE_TEST_CRASH_AT", "pushed:after-record")]);
    let task = format!("[[count {}]] [[write a.txt 1]] [[wait-for {}]]", count.display(), gate.display());
    let id = first.submit(fleet.job(task));
    eventually("its agent runs", || count.exists().then_some(()));
    let kept = fleet.redis.keep_state();
    std::fs::write(&gate, "").unwrap();
    first.wait_for_death();
    assert_eq!(fleet.repo.branches().len(), 2, "it had pushed");
    fleet.redis.kill();
    fleet.redis.set_state(Some(&kept));
    fleet.redis.come_back();
    let second = fleet.pod("pod-b");
    let job = second.wait(&id);
    assert_eq!(
        (&job["status"], &job["attempt"], &job["error"]),
        (&json!("succeeded"), &json!(2), &json!(null)),
        "{job:#}"
    );
    assert_eq!((job["pr_url"].as_str(), &job["pushed"]), (fleet.github.pulls()[0]["html_url"].as_str(), &json!(true)));
    assert_eq!((&fleet.github.pulls()[0]["base"], fleet.github.pulls().len()), (&json!("trunk"), 1));
    assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 1, "the agent is not run again");
    assert_eq!(second.stop(), Some(0));
}

#[test]
fn flushed() {
    no_deaths(survives("flushed", |fleet, _| fleet.redis.ask(&["FLUSHALL"])));
}

#[test]
fn one_key_evicted() {
    std::thread::scope(|scope| {
        for key in ["agenticore:queue", "agenticore:running", "agenticore:jobs"] {
            scope.spawn(move || {
                no_deaths(survives(key, |fleet, _| assert_eq!(fleet.redis.ask::<i64>(&["DEL", key]), 1)))
            });
        }
        for (kind, status) in [("job", "running"), ("job", "queued"), ("lease", "running"), ("events", "running")] {
            scope.spawn(move || {
                no_deaths(survives(kind, |fleet, pods| {
                    let id = pods[0].get(&format!("/jobs?status={status}")).1["jobs"][0]["id"].clone();
                    let key = format!("agenticore:{kind}:{}", id.as_str().unwrap());
                    assert_eq!(fleet.redis.ask::<i64>(&["DEL", &key]), 1);
                }))
            });
        }
    });
}

#[test]
fn paused_for_longer_than_two_leases() {
    no_deaths(survives("paused", |fleet, pods| {
        fleet.redis.pause();
        std::thread::sleep(Duration::from_secs(13));
        for pod in pods {
            assert_eq!(pod.get("/health").0, 200);
            assert!(
                pod.get("/health").1["waiting_for"].as_str().unwrap().contains("Redis"),
                "it says what it waits for"
            );
        }
        fleet.redis.go_on();
    }));
}

#[test]
fn read_only_out_of_memory_and_without_scripts() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            no_deaths(survives("READONLY", |fleet, _| {
                let port = free_port().to_string();
                let _: String = fleet.redis.ask(&["REPLICAOF", "127.0.0.1", &port]);
                std::thread::sleep(Duration::from_secs(2));
                let _: String = fleet.redis.ask(&["REPLICAOF", "NO", "ONE"]);
            }))
        });
        scope.spawn(|| {
            no_deaths(survives("out of memory", |fleet, pods| {
                let _: String = fleet.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
                // Accepted all the same: it is in its file.
                let id = pods[0].submit(json!({"task": "[[say kept]]"}));
                std::thread::sleep(Duration::from_secs(5));
                let _: String = fleet.redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
                eventually("the kept one ends or waits", || {
                    (pods[1].get(&format!("/jobs/{id}")).0 == 200).then_some(())
                });
                pods[1].cancel(&id);
            }))
        });
        scope.spawn(|| no_deaths(survives("scripts flushed", |fleet, _| fleet.redis.ask(&["SCRIPT", "FLUSH"]))));
    });
}

#[test]
fn cut_off_half_way_and_silent() {
    std::thread::scope(|scope| {
        for (name, mode, pause) in
            [("cut off", Mode::CutEvery(5), 3), ("cut off often", Mode::CutEvery(2), 3), ("silent", Mode::Silent, 9)]
        {
            scope.spawn(move || {
                let Some(mut fleet) = Fleet::new() else { return };
                let proxy = Proxy::to(fleet.redis.port);
                fleet.lab.set("REDIS_URL", format!("redis://127.0.0.1:{}", proxy.port));
                no_deaths(survives_over(fleet, name, |_, pods| {
                    proxy.set(mode);
                    std::thread::sleep(Duration::from_secs(pause));
                    assert_eq!(pods[0].get("/health").0, 200);
                    if mode != Mode::Silent {
                        // Also while it happens.
                        std::thread::sleep(Duration::from_secs(1));
                    }
                    proxy.set(Mode::Pass);
                }))
            });
        }
    });
}

#[test]
fn a_submission_while_redis_is_away_is_kept() {
    let Some(mut fleet) = Fleet::new() else { return };
    let pods = vec![fleet.pod("pod-a"), fleet.pod("pod-b")];
    let before = pods[0].submit(fleet.job("[[write a.txt 1]]"));
    pods[0].wait(&before);
    fleet.redis.kill();
    let kept: Vec<String> = (0..3).map(|n| pods[0].submit(fleet.job(format!("[[write k-{n}.txt 1]]")))).collect();
    let (status, seen) = pods[1].get(&format!("/jobs/{}", kept[0]));
    assert_eq!((status, &seen["stale"], &seen["job"]["status"]), (200, &json!(true), &json!("queued")), "{seen}");
    let (status, listed) = pods[1].get("/jobs");
    assert_eq!((status, &listed["stale"], &listed["count"]), (200, &json!(true), &json!(4)), "{listed}");
    assert_eq!(pods[1].get("/jobs?status=succeeded").1["count"], 1);
    assert_eq!(pods[1].get(&format!("/jobs/{}", &kept[1][..13])).0, 200, "also by the beginning of its id");
    assert_eq!(pods[0].get("/ready").0, 200, "it takes jobs in");
    // A file that cannot be written is a job that is not accepted.
    let open = fleet.lab.path("shared/job-state/open");
    std::fs::rename(&open, open.with_extension("aside")).unwrap();
    std::fs::write(&open, "in the way").unwrap();
    let (status, answer) = pods[0].post(&fleet.job("[[write no.txt 1]]"));
    assert_eq!(status, 503, "{answer}");
    std::fs::remove_file(&open).unwrap();
    std::fs::rename(open.with_extension("aside"), &open).unwrap();
    fleet.redis.come_back();
    for job in fleet.check_ledger(&pods[1], &[kept, vec![before]].concat()) {
        assert_eq!((&job["status"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job:#}");
    }
    assert_eq!(pods[1].get("/jobs").1["count"], 4);
    fleet.finish(pods);
}

#[test]
fn started_without_redis_it_works_when_it_comes() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.redis.kill();
    let pod = fleet.pod("pod-a");
    let health = eventually("it says what it waits for", || {
        let (status, health) = pod.get("/health");
        assert_eq!((status, &health["status"]), (200, &json!("ok")));
        health["waiting_for"].is_string().then_some(health)
    });
    assert!(health["waiting_for"].as_str().unwrap().contains(&fleet.redis.port.to_string()), "{health}");
    eventually("its log says so too", || pod.log().contains("waiting for Redis").then_some(()));
    let id = pod.submit(fleet.job("[[write a.txt 1]]"));
    fleet.redis.come_back();
    assert_eq!(fleet.check_ledger(&pod, &[id])[0]["status"], "succeeded");
    eventually("it waits no more", || pod.get("/health").1["waiting_for"].is_null().then_some(()));
    fleet.finish(vec![pod]);
}

/// Without a shared volume Redis alone holds the jobs; what was accepted without it waits in a file here.
#[test]
fn without_a_second_copy() {
    let Some(mut fleet) = Fleet::new().map(Fleet::without_second_copy) else { return };
    let pods = vec![fleet.pod("pod-a"), fleet.pod("pod-b")];
    assert!(pods[0].log().contains("no second copy"), "{}", pods[0].log());
    let gate = fleet.lab.path("gate");
    let id = pods[0].submit(fleet.job(format!("[[write a.txt 1]] [[wait-for {}]]", gate.display())));
    let cancelled = pods[0].submit(json!({"task": "[[sleep 600000]]"}));
    eventually("both run", || (pods[0].get("/jobs?status=running").1["count"] == 2).then_some(()));
    assert_eq!(pods[1].cancel(&cancelled).1["job"]["status"], "cancelled");
    fleet.redis.kill();
    let kept = pods[0].submit(json!({"task": "[[say kept]]"}));
    assert_eq!(pods[0].get("/ready").0, 503, "of what others hold it knows nothing");
    fleet.redis.come_back();
    std::fs::write(&gate, "").unwrap();
    for pod in &pods {
        eventually("it has found Redis again", || (pod.get(&format!("/jobs/{id}")).0 == 200).then_some(()));
    }
    assert_eq!(pods[1].wait(&id)["status"], "succeeded");
    // The other pod hears of it once Redis has.
    assert_eq!(pods[0].wait(&kept)["status"], "succeeded");
    assert_eq!(pods[1].wait(&cancelled)["status"], "cancelled");
    for pod in ["pod-a", "pod-b"] {
        let open = fleet.disk_of(pod).join("jobs/open");
        assert_eq!(std::fs::read_dir(open).unwrap().count(), 0, "{pod}");
    }
    fleet.finish(pods);
}

#[test]
fn the_same_key_is_the_same_job() {
    let Some(fleet) = Fleet::new() else { return };
    let pods = vec![fleet.pod("pod-a"), fleet.pod("pod-b")];
    let send = |pod: &Server, key: &str, body: &Value| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let asked = agent.post(format!("{}/jobs", pod.url)).header("idempotency-key", key);
        let mut answer = asked.send(body.to_string()).unwrap();
        let json: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        (answer.status().as_u16(), json)
    };
    let body = fleet.job("[[write a.txt 1]]");
    let (status, first) = send(&pods[0], "deploy-7", &body);
    assert_eq!(status, 200, "{first}");
    let id = first["job"]["id"].as_str().unwrap().to_owned();
    // In another order of fields, by another pod, and when it has ended.
    let reordered = json!({"repo_url": body["repo_url"], "profile": null, "task": body["task"], "wait": true});
    let (status, again) = send(&pods[1], "deploy-7", &reordered);
    assert_eq!((status, again["job"]["id"].as_str()), (200, Some(id.as_str())), "{again}");
    assert_eq!(again["job"]["status"], "succeeded", "it was waited for");
    let (status, answer) = send(&pods[1], "deploy-7", &json!({"task": "something else"}));
    assert!(status == 422 && answer["error"].as_str().unwrap().contains("another request"), "{status} {answer}");
    assert_eq!(send(&pods[0], "", &body).0, 400);
    // All at once: one job. Some may be told to ask again.
    let ids = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..10)
            .map(|n| {
                scope.spawn({
                    let (pods, send) = (&pods, &send);
                    move || {
                        eventually("it is answered", || {
                            match send(&pods[n % 2], "burst", &json!({"task": "[[say x]]"})) {
                                (409, _) => None,
                                (status, answer) => {
                                    assert_eq!(status, 200, "{answer}");
                                    Some(answer["job"]["id"].clone())
                                }
                            }
                        })
                    }
                })
            })
            .collect();
        asking.into_iter().map(|one| one.join().unwrap().to_string()).collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(ids.len(), 1);
    assert_eq!(pods[0].get("/jobs").1["count"], 2);
    fleet.check_ledger(&pods[0], &[id]);
    fleet.finish(pods);
}

/// While the first request with a key hangs, the second is told so.
#[test]
fn a_key_in_flight_is_a_409() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.lab.set("REDIS_TIMEOUT", "20");
    let pod = fleet.pod("pod-a");
    pod.run(json!({"task": "[[say warm]]"}));
    fleet.redis.pause();
    let lab = &fleet.lab;
    let arguments = ["run", "hello", "--idempotency-key", "k"];
    let client = |lab: &Lab| {
        let mut command = lab.command(&arguments);
        command.env("AGENTICORE_PORT", pod.port()).env("HOME", lab.path("home"));
        command
    };
    // Which of them is the first is theirs to find out.
    let mut clients: Vec<_> =
        (0..2).map(|_| client(lab).stderr(std::process::Stdio::piped()).spawn().unwrap()).collect();
    let at =
        eventually("one of them is refused", || clients.iter_mut().position(|one| one.try_wait().unwrap().is_some()));
    let refused = clients.remove(at).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("ask again"), "{said}");
    fleet.redis.go_on();
    assert!(clients.remove(0).wait().unwrap().success());
    fleet.finish(vec![pod]);
}

#[test]
fn a_shared_volume_without_redis_is_for_one_server() {
    let Some(fleet) = Fleet::new() else { return };
    let pod = fleet.pod("pod-a");
    let mut alone = Lab::new();
    for name in ["AGENTICORE_SHARED_FS_ROOT", "AGENTICORE_REPOS_ROOT"] {
        alone.set(name, fleet.lab.variables[name].clone());
    }
    let refused = alone.run(&["serve"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("REDIS_URL"), "{said}");
    fleet.finish_quietly(pod);
    // On its own it may.
    let server = alone.serve();
    let second = Lab::new().with("AGENTICORE_SHARED_FS_ROOT", alone.variables["AGENTICORE_SHARED_FS_ROOT"].clone());
    assert_eq!(second.run(&["serve"]).status.code(), Some(1));
    server.stop();
}

#[test]
fn a_volume_belongs_to_one_redis() {
    let Some(fleet) = Fleet::new() else { return };
    let pod = fleet.pod("pod-a");
    let done = fleet.command("pod-b", &["serve"], &[("REDIS_KEY_PREFIX", "other")]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(1) && said.contains("REDIS_KEY_PREFIX"), "{said}");
    fleet.finish(vec![pod]);
}

#[test]
fn two_servers_of_one_name_on_one_machine() {
    let Some(fleet) = Fleet::new() else { return };
    let pod = fleet.pod("pod-a");
    let done = fleet.command("pod-a", &["serve"], &[]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(1) && said.contains("AGENTICORE_POD_NAME"), "{said}");
    fleet.finish(vec![pod]);
}

/// A user with a password, a database, TLS with a CA of its own; and what is said when they are wrong.
#[test]
fn tls_users_and_databases() {
    let Some(mut fleet) = Fleet::new() else { return };
    let place = fleet.lab.path("tls");
    std::fs::create_dir_all(&place).unwrap();
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca >/dev/null 2>&1 &&
        openssl req -newkey rsa:2048 -nodes -keyout key.pem -out req.pem -subj /CN=localhost >/dev/null 2>&1 &&
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\n' > ext && openssl x509 -req -in req.pem -CA ca.pem -CAkey ca.key \
        -CAcreateserial -out cert.pem -days 2 -extfile ext >/dev/null 2>&1";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&place).status().unwrap().success());
    let port = free_port();
    let file = |name: &str| place.join(name).display().to_string();
    fleet.redis = Redis::start_with(
        &fleet.lab.path("redis-2"),
        &[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("cert.pem"),
            "--tls-key-file",
            &file("key.pem"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            "no",
        ],
    );
    let _: String = fleet.redis.ask(&["ACL", "SETUSER", "runner", "on", ">p@ss", "~*", "+@all"]);
    let url = |password: &str| format!("rediss://runner:{password}@localhost:{port}/3");
    fleet.lab.set("REDIS_URL", url("p%40ss"));
    fleet.lab.set("REDIS_CA_FILE", file("ca.pem"));
    let pod = fleet.pod("pod-a");
    let job = pod.run(fleet.job("[[write a.txt 1]]"));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let keys: Vec<String> = {
        let mut connection = fleet.redis.connection().unwrap();
        redis::cmd("SELECT").arg(3).exec(&mut connection).unwrap();
        redis::cmd("KEYS").arg("agenticore:job:*").query(&mut connection).unwrap()
    };
    assert_eq!(keys.len(), 1, "in its database");
    assert_eq!(pod.stop(), Some(0));
    for (name, value, said) in
        [("REDIS_URL", url("wrong"), "refuses the user or password"), ("REDIS_CA_FILE", file("cert.pem"), "ertificate")]
    {
        let before = fleet.lab.variables[name].clone();
        fleet.lab.set(name, value);
        let pod = fleet.pod("pod-a");
        let health = eventually("it says why", || {
            let health = pod.get("/health").1;
            health["waiting_for"].as_str().map(str::to_owned)
        });
        assert!(health.contains(said) && !health.contains("wrong"), "{health}");
        assert_eq!(pod.stop(), Some(0));
        fleet.lab.set(name, before);
    }
}

#[test]
fn a_sentinel_names_the_master_and_a_failover_is_followed() {
    let Some(mut fleet) = Fleet::new() else { return };
    let directory = fleet.lab.path("sentinel");
    std::fs::create_dir_all(&directory).unwrap();
    let master = fleet.redis.port.to_string();
    let replica = Redis::start_with(&fleet.lab.path("redis-2"), &["--replicaof", "127.0.0.1", &master]);
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let mut sentinels: Vec<Sentinel> = Vec::new();
    for port in &ports {
        let file = directory.join(format!("{port}.conf"));
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsentinel monitor m 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds m 1000\nsentinel failover-timeout m 5000\n",
            directory.display()
        );
        std::fs::write(&file, text).unwrap();
        sentinels.push(Sentinel(
            Command::new("redis-server")
                .arg(file)
                .arg("--sentinel")
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap(),
        ));
    }
    // One that is not there, and one that accepts and keeps silent, are passed over.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let list = format!(
        "127.0.0.1:1,127.0.0.1:{},{}",
        silent.local_addr().unwrap().port(),
        ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    );
    fleet.lab.set("REDIS_SENTINELS", list);
    fleet.lab.set("REDIS_SENTINEL_MASTER", "m");
    fleet.lab.set("REDIS_URL", "redis://unused");
    fleet.lab.set("REDIS_TIMEOUT", "2");
    eventually("they know the replica", || {
        let mut asked = redis::Client::open(format!("redis://127.0.0.1:{}", ports[0])).ok()?.get_connection().ok()?;
        let known: Vec<redis::Value> = redis::cmd("SENTINEL").arg("replicas").arg("m").query(&mut asked).ok()?;
        (!known.is_empty()).then_some(())
    });
    let pods = vec![fleet.pod("pod-a"), fleet.pod("pod-b")];
    let gate = fleet.lab.path("gate");
    let id = pods[0].submit(fleet.job(format!("[[write a.txt 1]] [[wait-for {}]]", gate.display())));
    eventually("it runs", || (pods[1].job(&id)["status"] == "running").then_some(()));
    fleet.redis.kill();
    eventually("the replica is the master", || {
        let role: Vec<redis::Value> = replica.try_ask(&["ROLE"]).ok()?;
        matches!(&role[0], redis::Value::BulkString(name) if name == b"master").then_some(())
    });
    std::fs::write(&gate, "").unwrap();
    let late = eventually("a submission is taken in", || {
        let (status, answer) = pods[1].post(&fleet.job("[[write late.txt 1]]"));
        (status == 200).then(|| answer["job"]["id"].as_str().unwrap().to_owned())
    });
    fleet.redis = replica;
    for job in fleet.check_ledger(&pods[0], &[id, late]) {
        assert_eq!((&job["status"], &job["deaths"]), (&json!("succeeded"), &json!(0)), "{job:#}");
    }
    for pod in pods {
        assert_eq!(pod.stop(), Some(0));
    }
}

struct Sentinel(std::process::Child);

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two nodes; our keys are on the one that was not configured.
#[test]
fn a_cluster_that_answers_moved_is_followed() {
    let Some(mut fleet) = Fleet::new() else { return };
    // The nodes talk to each other on a port 10 000 higher unless told otherwise, which may be somebody else's.
    let node = |name: &str| {
        let bus = free_port().to_string();
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        (Redis::start_with(&fleet.lab.path(name), &arguments), bus)
    };
    let ((first, _), (second, bus)) = (node("node-1"), node("node-2"));
    let slot = {
        let _: String = first.ask(&["CLUSTER", "MEET", "127.0.0.1", &second.port.to_string(), &bus]);
        first.ask::<u16>(&["CLUSTER", "KEYSLOT", "{agents}:queue"])
    };
    let all = |from: u16, to: u16| (from.to_string(), to.to_string());
    // The second has the slot of our tag, the first all the others.
    for (node, (from, to)) in [(&first, all(0, slot - 1)), (&second, all(slot, slot)), (&first, all(slot + 1, 16383))] {
        let _: String = node.ask(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]);
    }
    for node in [&first, &second] {
        eventually("the cluster is well", || {
            let info: String = node.try_ask(&["CLUSTER", "INFO"]).ok()?;
            info.contains("cluster_state:ok").then_some(())
        });
    }
    fleet.lab.set("REDIS_URL", first.url());
    fleet.lab.set("REDIS_KEY_PREFIX", "{agents}");
    let pod = fleet.pod("pod-a");
    let job = pod.run(fleet.job("[[write a.txt 1]]"));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    assert!(second.ask::<usize>(&["DBSIZE"]) > 0 && first.ask::<usize>(&["DBSIZE"]) == 0);
    assert_eq!(pod.stop(), Some(0));
    // Without a tag it is said what is wrong.
    fleet.lab.set("REDIS_KEY_PREFIX", "plain");
    let pod = fleet.pod("pod-a");
    pod.submit(json!({"task": "[[say x]]"}));
    eventually("it says so", || pod.log().contains("needs a {tag}").then_some(()));
    assert_eq!(pod.stop(), Some(0));
}
