//! `/metrics`: read by the parser of Prometheus' own client library, and by what it says of jobs that ended.

use crate::support::fleet::Fleet;
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::Redis;
use crate::support::{Lab, eventually, python};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn of(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

#[test]
fn jobs_and_requests_are_counted() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "1");
    let repo = lab.repo();
    let server = lab.serve();
    server.run(json!({"task": "[[cost 0.25]]", "repo_url": repo.url()}));
    server.run(json!({"task": "[[exit 3]]"}));
    let hangs = server.submit(json!({"task": "[[sleep 600000]]"}));
    eventually("it runs", || (server.job(&hangs)["status"] == "running").then_some(()));
    let waits = server.submit(json!({"task": "t"}));
    server.get(&format!("/jobs/{waits}"));
    server.get("/nothing/like/this");
    server.request("DELETE", "/jobs", None);
    let read = || server.get("/metrics").1.as_str().unwrap().to_owned();
    let failed = r#"agenticore_jobs_total{profile="coding",status="failed"}"#;
    let text = eventually("the ends are counted", || Some(read()).filter(|text| of(text, failed).is_some()));
    for (sample, value) in [
        (r#"agenticore_jobs_total{profile="coding",status="succeeded"}"#, 1.0),
        (failed, 1.0),
        ("agenticore_job_duration_seconds_count", 2.0),
        ("agenticore_job_wait_seconds_count", 2.0),
        (r#"agenticore_job_cost_usd_total{profile="coding"}"#, 0.25),
        ("agenticore_queue_jobs", 1.0),
        ("agenticore_running_jobs", 1.0),
        ("agenticore_slots", 1.0),
        ("agenticore_draining", 0.0),
        (r#"agenticore_events_total{event="takeover"}"#, 0.0),
        (r#"agenticore_http_requests_total{code="404",method="GET",route="unknown"}"#, 1.0),
        (r#"agenticore_http_requests_total{code="405",method="DELETE",route="/jobs"}"#, 1.0),
        (r#"agenticore_http_requests_total{code="200",method="POST",route="/jobs"}"#, 4.0),
    ] {
        assert_eq!(of(&text, sample), Some(value), "{sample}\n{text}");
    }
    assert!(of(&text, "agenticore_git_call_seconds_count").unwrap() > 3.0 && !text.contains(&hangs), "{text}");
    let oldest = |text: &str| of(text, "agenticore_queue_oldest_seconds").unwrap();
    eventually("it waits longer", || (oldest(&read()) > oldest(&text)).then_some(()));
    assert_eq!((server.cancel(&waits).0, server.cancel(&hangs).0), (200, 200));
    let cancelled = r#"agenticore_jobs_total{profile="coding",status="cancelled"}"#;
    eventually("the cancelled are counted", || (of(&read(), cancelled) == Some(2.0)).then_some(()));
    server.stop();
}

/// The library of those who define the format has the last word on it.
#[test]
fn prometheus_reads_all_of_it() {
    let reader = python("python3");
    let lab = Lab::new();
    let server = lab.serve();
    server.run(json!({"task": "[[say hi]]"}));
    let text = server.get("/metrics").1.as_str().unwrap().to_owned();
    let script = "import sys\nfrom prometheus_client.parser import text_string_to_metric_families as read\n\
                  families = list(read(sys.stdin.read()))\n\
                  bare = [f.name for f in families if not f.documentation]\n\
                  assert not bare, bare\nprint(len(families))";
    let mut child =
        Command::new(reader).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let count: usize = String::from_utf8_lossy(&done.stdout).trim().parse().unwrap_or(0);
    assert!(done.status.success() && count >= 15, "{count}\n{text}");
    server.stop();
}

fn deployed(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus").join(name)
}

/// Prometheus itself takes the alerts, fires them when it should, and answers each query of the dashboard on what a real
/// server counts.
#[test]
fn alerts_and_dashboard_are_what_prometheus_takes() {
    for words in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let done = Command::new("promtool").args(words).current_dir(deployed("")).output().unwrap();
        assert!(done.status.success(), "{words:?}: {done:?}");
    }
    let alerts = std::fs::read_to_string(deployed("alerts.yml")).unwrap();
    let page = std::fs::read_to_string(deployed("../../docs/operations.md")).unwrap();
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(page.contains(&format!("\n### {name}\n")), "docs/operations.md does not say what to do about {name}");
        assert!(alerts.contains(&format!("operations.md#{}\n", name.to_lowercase())), "{name}");
    }
    let lab = Lab::new();
    let server = lab.serve();
    server.run(json!({"task": "[[say hi]]"}));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let target = server.url.trim_start_matches("http://");
    // The configuration of Compose, but for whom it reads, and how often.
    let config = std::fs::read_to_string(deployed("../../compose/telemetry/prometheus.yml")).unwrap();
    let replaced = config
        .replace("dns_sd_configs:", "static_configs:")
        .replace(
            "{names: [agenticore, worker-1, worker-2], type: A, port: 8200, refresh_interval: 10s}",
            &format!("{{targets: ['{target}']}}"),
        )
        .replace(": 15s", ": 1s")
        .replace("scrape_timeout: 14s", "scrape_timeout: 1s");
    assert!(replaced.contains(target) && replaced.contains("scrape_interval: 1s"), "{replaced}");
    std::fs::copy(deployed("alerts.yml"), lab.path("alerts.yml")).unwrap();
    for (name, text) in [("compose.yml", &config), ("prometheus.yml", &replaced)] {
        std::fs::write(lab.path(name), text).unwrap();
        let done =
            Command::new("promtool").args(["check", "config", name]).current_dir(lab.dir.path()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", lab.path("prometheus.yml").display()));
    prometheus.arg(format!("--storage.tsdb.path={}", lab.path("series").display()));
    prometheus.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut child = prometheus.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let query = |expression: &str| -> Option<serde_json::Value> {
        let request = agent.get(format!("http://127.0.0.1:{port}/api/v1/query")).query("query", expression);
        serde_json::from_str(&request.call().ok()?.body_mut().read_to_string().ok()?).ok()
    };
    let count = |answer: &serde_json::Value| answer["data"]["result"].as_array().map_or(0, Vec::len);
    eventually("it has scraped", || query("agenticore_slots").filter(|answer| count(answer) == 1));
    let board: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(deployed("dashboard.json")).unwrap()).unwrap();
    let mut asked = 0;
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let answer = query(expression).unwrap();
            assert_eq!(answer["status"], "success", "{expression}: {answer}");
            // A rate wants two scrapes, and what a server without Redis never counts stays empty.
            let is_now = !expression.contains("rate(") && !expression.contains("increase(");
            assert!(!is_now || count(&answer) > 0, "{expression} says nothing");
            asked += 1;
        }
    }
    assert!(asked > 15);
    child.kill().unwrap();
    child.wait().unwrap();
    server.stop();
}

/// By whoever made the end what it is, and by nobody else: also where two pods cancel a job at the same moment, or one
/// cancels what the other one finishes.
#[test]
fn each_end_is_counted_by_one_pod() {
    for with_copy in [true, false] {
        let Some(fleet) = Fleet::new() else { return };
        let fleet = if with_copy { fleet } else { fleet.without_second_copy() };
        let pods = ["pod-a", "pod-b"].map(|name| fleet.pod_with(name, &[("AGENTICORE_MAX_PARALLEL_JOBS", "1")]));
        let ids: Vec<String> = (0..40).map(|_| pods[0].submit(json!({"task": "[[sleep 20]] [[say done]]"}))).collect();
        for id in ids.iter().step_by(2) {
            std::thread::scope(|scope| {
                for pod in &pods {
                    scope.spawn(|| pod.cancel(id));
                }
            });
        }
        let ends: BTreeSet<String> =
            ids.iter().map(|id| pods[1].wait(id)["status"].as_str().unwrap().to_owned()).collect();
        assert!(ends.contains("cancelled") && ends.contains("succeeded"), "{ends:?}");
        let counted = || -> f64 {
            let texts = pods.iter().map(|pod| pod.get("/metrics").1.as_str().unwrap().to_owned());
            texts.map(|text| of(&text, "agenticore_job_wait_seconds_count").unwrap()).sum()
        };
        eventually("all are counted", || (counted() >= 40.0).then_some(()));
        assert_eq!(counted(), 40.0, "with a second copy: {with_copy}");
        let [one, other] = pods;
        assert_eq!((one.stop(), other.stop()), (Some(0), Some(0)));
    }
}

/// Also where the answer of Redis to it is lost: asked again it says the same.
#[test]
fn an_end_is_counted_whose_answer_was_lost() {
    let Some(mut fleet) = Fleet::new().map(Fleet::without_second_copy) else { return };
    let proxy = Proxy::to(fleet.redis.port);
    fleet.lab.set("REDIS_URL", format!("redis://127.0.0.1:{}", proxy.port));
    let pod = fleet.pod("pod-a");
    proxy.set(Mode::LosesAnswerTo(r#""kind":"ended""#));
    let job = pod.run(json!({"task": "[[say done]]"}));
    assert_eq!((&job["status"], proxy.mode()), (&json!("succeeded"), Mode::Pass), "{job:#}");
    let read = || pod.get("/metrics").1.as_str().unwrap().to_owned();
    let wait = "agenticore_job_wait_seconds_count";
    eventually("its end is counted", || (of(&read(), wait) == Some(1.0)).then_some(()));
    assert!(pod.log().contains("ended: succeeded"), "{}", pod.log());
    pod.stop();
}

/// A scrape that is given up tells nothing, just when there is something to tell.
#[test]
fn a_silent_redis_is_told_of_in_time() {
    let lab = Lab::new();
    let redis = Redis::start_with(&lab.path("redis"), &[]);
    let lab = lab.with("REDIS_URL", redis.url()).with("REDIS_TIMEOUT", "60").with("AGENTICORE_LEASE", "600");
    let server = lab.serve();
    assert_eq!(server.get("/status").1["queued"], 0);
    redis.pause();
    let begin = Instant::now();
    let text = server.get("/metrics").1.as_str().unwrap().to_owned();
    assert_eq!(of(&text, "agenticore_queue_jobs"), Some(-1.0), "{text}");
    let (code, status) = server.get("/status");
    assert_eq!((code, &status["queued"], status["pods"].as_array().unwrap().len()), (200, &json!(null), 1), "{status}");
    // Far more than they may take, and far less than Redis may.
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
    server.kill();
}
