//! Webhooks: told of a job's end, signed as Standard Webhooks has it, tried again, surviving servers.

use crate::support::fleet::Fleet;
use crate::support::http::{Asked, StandIn, Told};
use crate::support::*;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAAAAAAAAA=";
const OTHER_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Headers, and the body as text.
type Heard = (Vec<(String, String)>, String);

/// A receiver, and what it was told.
struct Receiver {
    server: StandIn,
    told: Arc<Mutex<Vec<Heard>>>,
}

impl Receiver {
    /// `answer`: the status for each try, counted from 0.
    fn start(answer: impl Fn(usize) -> Told + Send + Sync + 'static) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let (noted, count) = (told.clone(), AtomicUsize::new(0));
        let server = StandIn::start(move |asked: Asked| {
            assert_eq!((asked.method.as_str(), asked.header("content-type")), ("POST", Some("application/json")));
            noted.lock().unwrap().push((asked.headers, String::from_utf8(asked.body).unwrap()));
            answer(count.fetch_add(1, Ordering::SeqCst))
        });
        Self { server, told }
    }

    fn url(&self) -> String {
        format!("{}/hook?token=sesame", self.server.url())
    }

    fn told(&self) -> Vec<Heard> {
        self.told.lock().unwrap().clone()
    }

    fn wait_for(&self, count: usize) -> Vec<Heard> {
        eventually("the receiver was told", || Some(self.told()).filter(|told| told.len() >= count))
    }
}

fn status(status: u16) -> Told {
    Told { status, headers: Vec::new(), body: b"noted".to_vec() }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap_or_default()
}

/// With the library that receivers use. Panics where it does not verify.
fn verify(secret: &str, (headers, body): &Heard) {
    let script = "import json, sys\nfrom standardwebhooks import Webhook\nmessage = json.load(sys.stdin)\n\
                  Webhook(message['secret']).verify(message['body'], message['headers'])\n";
    let mut child = Command::new(python("python3"))
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: serde_json::Map<String, Value> =
        names.iter().map(|name| (name.to_string(), json!(header(headers, name)))).collect();
    let message = json!({"secret": secret, "body": body, "headers": headers});
    child.stdin.take().unwrap().write_all(message.to_string().as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn webhooks(server: &Server, id: &str) -> Vec<Value> {
    server.get(&format!("/jobs/{id}")).1["job"]["webhooks"].as_array().cloned().unwrap_or_default()
}

#[test]
fn an_end_is_told_signed_and_tried_until_it_is_heard() {
    let good = Receiver::start(|_| status(204));
    let flaky = Receiver::start(|count| status(if count < 3 { 500 } else { 200 }));
    let gone = Receiver::start(|_| status(410));
    let urls = [good.url(), flaky.url(), gone.url()].join(",");
    let lab = Lab::new()
        .with("AGENTICORE_WEBHOOK_URLS", urls)
        .with("AGENTICORE_WEBHOOK_SECRET", format!("{SECRET},{OTHER_SECRET}"))
        .with("AGENTICORE_WEBHOOK_EVENTS", "started,ended")
        .with("AGENTICORE_WEBHOOK_BACKOFF", "10ms");
    let server = lab.serve();
    let job = server.run(json!({"task": "[[say hello]]", "labels": {"team": "core"}}));
    let id = job["id"].as_str().unwrap();
    let told = good.wait_for(2);
    told.iter().for_each(|message| {
        verify(SECRET, message);
        verify(OTHER_SECRET, message);
    });
    let bodies: Vec<Value> = told.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect();
    let ended = bodies.iter().find(|body| body["type"] == "job.ended").unwrap();
    assert!(bodies.iter().any(|body| body["type"] == "job.started"), "{bodies:#?}");
    let shown = &ended["data"]["job"];
    assert_eq!((&shown["id"], &shown["status"], &shown["output"]), (&json!(id), &json!("succeeded"), &json!("hello")));
    assert_eq!((&ended["timestamp"], &shown["labels"]["team"]), (&job["ended_at"], &json!("core")));
    // The same id on each try, and a time of its own.
    let tries = eventually("it is heard in the end", || {
        let of_end: Vec<_> = flaky.told().into_iter().filter(|(_, body)| body.contains("job.ended")).collect();
        let is_told = webhooks(&server, id).iter().filter(|one| one["state"] == "told").count() == 4;
        is_told.then_some(of_end)
    });
    let ids: Vec<&str> = tries.iter().map(|(headers, _)| header(headers, "webhook-id")).collect();
    assert!(ids.iter().all(|one| *one == format!("msg_{id}_ended")), "{ids:?}");
    tries.iter().for_each(|message| verify(SECRET, message));
    let of_gone: Vec<Value> = webhooks(&server, id).into_iter().filter(|one| one["state"] == "failed").collect();
    assert!(of_gone.len() == 2 && of_gone[0]["last"].as_str().unwrap().contains("410"), "{of_gone:#?}");
    let shown = of_gone[0]["url"].as_str().unwrap();
    assert!(shown.starts_with(&format!("{}/…", gone.server.url())), "a token is nobody's business: {shown}");
    assert!(!server.log().contains("sesame"), "{}", server.log());
    let lab = lab.with("AGENTICORE_PORT", server.port());
    let list = lab.run(&["webhooks"]);
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.status.code() == Some(1) && text.contains("410") && !text.contains("sesame"), "{list:?}");
    // Who wants to hear no more of it is told no more.
    let before = gone.told().len();
    let retried = lab.run(&["webhooks", "--retry", "--json"]);
    let answer: Value = serde_json::from_slice(&retried.stdout).unwrap_or_else(|_| panic!("{retried:?}"));
    assert_eq!((&answer["count"], gone.told().len()), (&json!(0), before));
    server.stop();
}

#[test]
fn what_was_not_told_survives_the_server() {
    let away = Receiver::start(|_| status(503));
    let lab = Lab::new().with("AGENTICORE_WEBHOOK_URLS", away.url()).with("AGENTICORE_WEBHOOK_SECRET", SECRET);
    let server = lab.serve();
    let id = server.run(json!({"task": "t"}))["id"].as_str().unwrap().to_owned();
    away.wait_for(1);
    server.kill();
    drop(away);
    let here = Receiver::start(|_| status(200));
    // Two minutes later it is due again, wherever the receiver was: what is to be told names it.
    let notice = lab.path(&format!("jobs/webhooks/waiting/{id}-ended.json"));
    let text = std::fs::read_to_string(&notice).unwrap();
    let mut noted: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(noted["deliveries"].as_array().unwrap().len(), 1, "{text}");
    noted["deliveries"][0]["url"] = json!(here.url());
    std::fs::write(&notice, noted.to_string()).unwrap();
    let later = Lab { dir: lab.dir, variables: lab.variables }.with("AGENTICORE_TEST_CLOCK", "120");
    let server = later.serve();
    let told = here.wait_for(1);
    assert_eq!(header(&told[0].0, "webhook-id"), format!("msg_{id}_ended"));
    eventually("it is noted", || webhooks(&server, &id).iter().all(|one| one["state"] == "told").then_some(()));
    server.stop();
}

#[test]
fn what_nobody_is_told_any_more_says_so_and_ends() {
    let away = Receiver::start(|_| status(503));
    let lab = Lab::new().with("AGENTICORE_WEBHOOK_URLS", away.url()).with("AGENTICORE_WEBHOOK_SECRET", SECRET);
    let server = lab.serve();
    let id = server.run(json!({"task": "t"}))["id"].as_str().unwrap().to_owned();
    away.wait_for(1);
    let two = server.run(json!({"task": "t"}))["id"].as_str().unwrap().to_owned();
    away.wait_for(2);
    server.stop();
    // One that nobody had looked at yet.
    let notice = |id: &str| lab.path(&format!("jobs/webhooks/waiting/{id}-ended.json"));
    let mut fresh: Value = serde_json::from_slice(&std::fs::read(notice(&id)).unwrap()).unwrap();
    (fresh["deliveries"], fresh["body"]) = (json!([]), Value::Null);
    std::fs::write(notice(&id), fresh.to_string()).unwrap();
    // Without a secret nothing is told, and that is said; what there is to tell stays.
    let lab = Lab { dir: lab.dir, variables: lab.variables };
    let mut mute = Lab { variables: lab.variables.clone(), dir: tempfile::tempdir().unwrap() };
    mute.variables.retain(|name, _| !name.contains("WEBHOOK"));
    let server = mute.serve();
    let mute = mute.with("AGENTICORE_PORT", server.port());
    let list = mute.run(&["webhooks"]);
    let told = String::from_utf8_lossy(&list.stderr).into_owned();
    assert!(told.contains("it has no AGENTICORE_WEBHOOK_SECRET"), "{list:?}");
    assert_eq!(server.get("/webhooks").1["count"], 2, "also what nobody has looked at");
    let retried = mute.run(&["webhooks", "--retry"]);
    assert!(String::from_utf8_lossy(&retried.stderr).contains("tells nobody"), "{retried:?}");
    server.stop();
    // Where the settings name nobody any more, what was not addressed yet ends; what was, is told on.
    let path = lab.dir.path().join(format!("jobs/webhooks/waiting/{id}-ended.json"));
    let nobody = lab.with("AGENTICORE_WEBHOOK_URLS", "");
    let server = nobody.serve();
    eventually("it ends", || (!path.exists()).then_some(()));
    eventually("it is said", || server.log().contains("nobody is told of it").then_some(()));
    assert_eq!(webhooks(&server, &two)[0]["state"], "waiting");
    server.stop();
}

#[test]
fn receivers_of_jobs_that_hang_hold_up_nobody_elses() {
    let good = Receiver::start(|_| status(200));
    let goes = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let hangs = Receiver::start({
        let goes = goes.clone();
        move |_| {
            while goes.load(Ordering::SeqCst) {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            status(200)
        }
    });
    let lab = Lab::new()
        .with("AGENTICORE_WEBHOOK_URLS", good.url())
        .with("AGENTICORE_WEBHOOK_SECRET", SECRET)
        .with("AGENTICORE_WEBHOOK_ALLOW_PRIVATE", "true");
    let server = lab.serve();
    let port = hangs.server.address.port();
    let names = ["127.0.0.1", "127.1", "localhost", "0x7f.1", "2130706433"];
    for number in 0..40 {
        let url = format!("http://{}:{port}/{number}", names[number % names.len()]);
        server.submit(json!({"task": "t", "webhook_url": url}));
    }
    good.wait_for(40);
    // All of it before the first that hangs was given up.
    let waiting = server.get("/webhooks").1;
    assert!(waiting["webhooks"].as_array().unwrap().iter().all(|one| one["tries"] == 0), "{waiting:#}");
    goes.store(false, Ordering::SeqCst);
    server.stop();
}

#[test]
fn what_is_to_be_told_outlives_its_job() {
    let heard = Receiver::start(|count| status(if count == 0 { 500 } else { 200 }));
    let lab = Lab::new()
        .with("AGENTICORE_WEBHOOK_URLS", heard.url())
        .with("AGENTICORE_WEBHOOK_SECRET", SECRET)
        .with("AGENTICORE_WEBHOOK_BACKOFF", "8")
        .with("AGENTICORE_JOB_TTL", "1");
    let server = lab.serve();
    let id = server.submit(json!({"task": "[[say soon forgotten]]"}));
    heard.wait_for(1);
    eventually("the job is forgotten", || (server.get(&format!("/jobs/{id}")).0 == 404).then_some(()));
    let told = heard.wait_for(2);
    verify(SECRET, &told[1]);
    assert!(told[1].1.contains("soon forgotten") && told[0].1 == told[1].1, "{told:?}");
    eventually("nothing of it is left", || {
        let left = |shelf: &str| {
            let directory = lab.path(&format!("jobs/webhooks/{shelf}"));
            std::fs::read_dir(directory).map_or(0, |all| all.flatten().count())
        };
        (["waiting", "failed", "done"].iter().all(|shelf| left(shelf) == 0)).then_some(())
    });
    server.stop();
}

#[test]
fn a_jobs_own_url_does_not_lead_inside() {
    let inside = Receiver::start(|_| status(200));
    let redirects = Receiver::start({
        let inside = inside.url();
        move |_| Told { status: 302, headers: vec![("location".into(), inside.clone())], body: Vec::new() }
    });
    let slow = Receiver::start(|_| {
        std::thread::sleep(std::time::Duration::from_secs(30));
        status(200)
    });
    let lab = Lab::new().with("AGENTICORE_WEBHOOK_SECRET", SECRET).with("AGENTICORE_WEBHOOK_BACKOFF", "10ms");
    let server = lab.serve();
    let (code, answer) = server.post(&json!({"task": "t", "webhook_url": inside.url()}));
    assert!(code == 400 && answer["field"] == "webhook_url", "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("AGENTICORE_WEBHOOK_ALLOW_PRIVATE"), "{answer}");
    // A name is looked at when it is connected to: this one is Debian's for ::1.
    let name = format!("http://ip6-localhost:{}/", inside.server.address.port());
    let id = server.run(json!({"task": "t", "webhook_url": name}))["id"].as_str().unwrap().to_owned();
    let one = eventually("it was tried", || webhooks(&server, &id).into_iter().find(|one| one["tries"] != 0));
    let last = one["last"].as_str().unwrap();
    assert!(last.contains("own network") || last.contains("not known"), "{one}");
    assert!(inside.told().is_empty());
    server.stop();
    let lab = lab.with("AGENTICORE_WEBHOOK_ALLOW_PRIVATE", "true");
    let server = lab.serve();
    let hung = server.submit(json!({"task": "t", "webhook_url": slow.url()}));
    let id = server.run(json!({"task": "t", "webhook_url": redirects.url()}))["id"].as_str().unwrap().to_owned();
    let one = eventually("it was tried", || webhooks(&server, &id).into_iter().find(|one| one["tries"] != 0));
    assert!(one["last"].as_str().unwrap().contains("redirects are not followed"), "{one}");
    // The slow one holds up nobody.
    let good = server.run(json!({"task": "t", "webhook_url": inside.url()}))["id"].as_str().unwrap().to_owned();
    eventually("the others are told", || {
        webhooks(&server, &good).iter().any(|one| one["state"] == "told").then_some(())
    });
    let one =
        eventually("it is given up for now", || webhooks(&server, &hung).into_iter().find(|one| one["tries"] != 0));
    assert!(one["last"].as_str().unwrap().contains("did not answer within 10 s"), "{one}");
    assert_eq!(inside.told().len(), 1);
    server.stop();
}

#[test]
fn what_cannot_be_signed_is_not_told() {
    let lab = Lab::new().with("AGENTICORE_WEBHOOK_URLS", "https://hooks.example.com/");
    let refused = lab.run(&["serve"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && told.contains("needs AGENTICORE_WEBHOOK_SECRET"), "{told}");
    let lab = Lab::new().with("AGENTICORE_WEBHOOK_SECRET", "sesame-open");
    let told = String::from_utf8_lossy(&lab.run(&["serve"]).stderr).into_owned();
    assert!(told.contains("must be `whsec_`") && !told.contains("sesame"), "{told}");
    let lab = Lab::new();
    let server = lab.serve();
    let (code, answer) = server.post(&json!({"task": "t", "webhook_url": "https://hooks.example.com/"}));
    assert!(code == 400 && answer["error"].as_str().unwrap().contains("AGENTICORE_WEBHOOK_SECRET"), "{answer}");
    server.stop();
}

#[test]
fn another_pod_tells_what_a_dead_one_did_not() {
    let Some(fleet) = Fleet::new() else { return };
    let heard = Receiver::start(|count| status(if count == 0 { 500 } else { 200 }));
    let more = [
        ("AGENTICORE_WEBHOOK_URLS", heard.url()),
        ("AGENTICORE_WEBHOOK_SECRET", SECRET.to_owned()),
        ("AGENTICORE_WEBHOOK_BACKOFF", "2".to_owned()),
    ];
    let more: Vec<(&str, &str)> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let first = fleet.pod_with("pod-0", &more);
    let second = fleet.pod_with("pod-1", &more);
    let id = first.submit(fleet.job("t"));
    first.wait(&id);
    heard.wait_for(1);
    // Whichever of them told: one is left.
    first.kill();
    let told = heard.wait_for(2);
    assert!(told.iter().all(|(headers, _)| header(headers, "webhook-id") == format!("msg_{id}_ended")));
    eventually("it is noted", || webhooks(&second, &id).iter().all(|one| one["state"] == "told").then_some(()));
    fleet.finish(vec![second]);
}

/// Without a shared directory each pod has an outbox of its own: the one that closed the job tells.
#[test]
fn without_a_second_copy_one_pod_tells() {
    let Some(fleet) = Fleet::new().map(Fleet::without_second_copy) else { return };
    let heard = Receiver::start(|_| status(200));
    let url = heard.url();
    let more = [("AGENTICORE_WEBHOOK_URLS", url.as_str()), ("AGENTICORE_WEBHOOK_SECRET", SECRET)];
    let pods = ["pod-a", "pod-b"].map(|name| fleet.pod_with(name, &more));
    let gate = fleet.lab.path("gate");
    let task = json!({"task": format!("[[wait-for {}]]", gate.display())});
    let ids: Vec<String> = (0..20).map(|_| pods[0].submit(task.clone())).collect();
    for id in &ids {
        std::thread::scope(|scope| {
            for pod in [&pods[0], &pods[1], &pods[0], &pods[1]] {
                scope.spawn(|| pod.cancel(id));
            }
        });
    }
    heard.wait_for(ids.len());
    for pod in &pods {
        eventually("nothing waits", || (pod.get("/webhooks").1["count"] == 0).then_some(()));
    }
    let told: Vec<String> = heard.told().iter().map(|(headers, _)| header(headers, "webhook-id").to_owned()).collect();
    assert!(ids.iter().all(|id| told.contains(&format!("msg_{id}_ended"))), "{told:?}");
    // A pod may have looked in the moment between its note and the other one's close.
    assert!(told.len() <= ids.len() + 2, "{} were told of {}", told.len(), ids.len());
    let [one, other] = pods;
    assert_eq!((one.stop(), other.stop()), (Some(0), Some(0)));
}

/// A pod that is frozen holds its lock: the other one tells all the same, and what it ended meanwhile is told once.
#[test]
fn another_pod_tells_while_the_one_that_did_is_frozen() {
    let Some(fleet) = Fleet::new() else { return };
    let heard = Receiver::start(|_| status(200));
    let more = [("AGENTICORE_WEBHOOK_URLS", heard.url()), ("AGENTICORE_WEBHOOK_SECRET", SECRET.to_owned())];
    let more: Vec<(&str, &str)> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let first = fleet.pod_with("pod-0", &more);
    let teller = eventually("the first one tells", || {
        let id = first.submit(fleet.job("t"));
        first.wait(&id);
        (!heard.told().is_empty()).then_some(id)
    });
    let second = fleet.pod_with("pod-1", &more);
    first.signal("STOP");
    let id = second.submit(fleet.job("t"));
    second.wait(&id);
    let told = eventually("it is told by the other one", || {
        heard.told().into_iter().find(|(headers, _)| header(headers, "webhook-id").contains(&id))
    });
    verify(SECRET, &told);
    first.signal("CONT");
    let third = first.submit(fleet.job("t"));
    first.wait(&third);
    let of = |id: &str| heard.told().iter().filter(|(headers, _)| header(headers, "webhook-id").contains(id)).count();
    eventually("the third is told", || (of(&third) > 0).then_some(()));
    assert_eq!((of(&teller), of(&id), of(&third)), (1, 1, 1));
    fleet.finish(vec![first, second]);
}
