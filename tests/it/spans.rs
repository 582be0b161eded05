//! One trace a job, read with OpenTelemetry's own definition of its protocol; Claude's spans below ours.

use crate::claude::cli;
use crate::support::http::{Asked, StandIn, Told};
use crate::support::messages::Messages;
use crate::support::*;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// Path, content type and body.
type Sent = (String, String, Vec<u8>);

/// A collector that keeps what it is sent.
struct Collector {
    server: StandIn,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Collector {
    fn start() -> Self {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = sent.clone();
        let server = StandIn::start(move |asked: Asked| {
            let kind = asked.header("content-type").unwrap_or_default().to_owned();
            assert_eq!(asked.header("x-team"), Some("core"), "the headers of the settings come along");
            kept.lock().unwrap().push((asked.path, kind.clone(), asked.body));
            Told { status: 200, headers: vec![("content-type".into(), kind)], body: Vec::new() }
        });
        Self { server, sent }
    }

    fn lab(&self, lab: Lab, protocol: &str) -> Lab {
        lab.with("AGENTICORE_OTEL_ENABLED", "true")
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", self.server.url())
            .with("OTEL_EXPORTER_OTLP_HEADERS", "x-team=core")
            .with("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    }

    /// All spans so far, strictly as the protocol's own definition reads them: with their resource's name.
    fn spans(&self) -> Vec<Value> {
        let script = "import sys, json, base64\n\
            from google.protobuf import json_format\n\
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Request\n\
            spans = []\n\
            for kind, body in json.load(sys.stdin):\n\
            \x20   request, body = Request(), base64.b64decode(body)\n\
            \x20   if 'json' in kind:\n\
            \x20       text = json.loads(body)\n\
            \x20       for r in text['resourceSpans']:\n\
            \x20           for s in r['scopeSpans']:\n\
            \x20               for span in s['spans']:\n\
            \x20                   for name in ('traceId', 'spanId', 'parentSpanId'):\n\
            \x20                       if name in span: span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()\n\
            \x20       json_format.ParseDict(text, request)\n\
            \x20   else:\n\
            \x20       request.ParseFromString(body)\n\
            \x20   for r in request.resource_spans:\n\
            \x20       resource = {a.key: a.value.string_value for a in r.resource.attributes}\n\
            \x20       for s in r.scope_spans:\n\
            \x20           for span in s.spans:\n\
            \x20               spans.append({'service': resource['service.name'], 'name': span.name,\n\
            \x20                   'trace': span.trace_id.hex(), 'id': span.span_id.hex(), 'parent': span.parent_span_id.hex(),\n\
            \x20                   'begin': span.start_time_unix_nano, 'end': span.end_time_unix_nano,\n\
            \x20                   'error': span.status.code == 2, 'message': span.status.message,\n\
            \x20                   'attributes': {a.key: json_format.MessageToDict(a.value) for a in span.attributes}})\n\
            print(json.dumps(spans))\n";
        let sent = self.sent.lock().unwrap().clone();
        let encode = |body: &Vec<u8>| base64(body);
        let bodies: Vec<Value> = sent
            .iter()
            .filter(|(path, _, _)| path == "/v1/traces")
            .map(|(_, kind, body)| json!([kind, encode(body)]))
            .collect();
        let mut child = Command::new(python("python3"))
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(json!(bodies).to_string().as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success());
        serde_json::from_slice(&done.stdout).unwrap()
    }

    fn wait_for(&self, what: &str, is_there: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut seen = 0;
        eventually(what, || {
            let count = self.sent.lock().unwrap().len();
            if count == seen {
                return None;
            }
            seen = count;
            Some(self.spans()).filter(|spans| is_there(spans))
        })
    }
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no span {name} in {spans:#?}"))
}

#[test]
fn a_whole_job_is_one_trace_below_its_callers() {
    for protocol in ["http/protobuf", "http/json"] {
        let collector = Collector::start();
        let lab = collector.lab(Lab::new(), protocol).with("ANTHROPIC_API_KEY", "sk-ant-of-this-test");
        let repo = lab.repo();
        let server = lab.serve();
        let dump = lab.path("dump.json");
        let task = format!("[[write a.txt 1]] [[dump {}]]", dump.display());
        let body = json!({"task": task, "repo_url": repo.url(), 
            "labels": {"team": "core", "note": "sk-ant-of-this-test"}})
        .to_string();
        let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (_, answer) = server.send("/jobs", &[("traceparent", caller), ("content-type", "application/json")], &body);
        let id = answer["job"]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        let job = server.wait(&id);
        let spans = collector.wait_for("the whole trace is there", |spans| spans.len() >= 6);
        let root = named(&spans, "job");
        assert_eq!(root["parent"], "b7ad6b7169203331", "{spans:#?}");
        for name in ["queued", "clone", "worktree", "agent", "publish"] {
            let span = named(&spans, name);
            assert_eq!((&span["parent"], &span["error"]), (&root["id"], &json!(false)), "{span:#}");
            let (begin, end) = (span["begin"].as_u64().unwrap(), span["end"].as_u64().unwrap());
            assert!(root["begin"].as_u64().unwrap() <= begin && begin <= end, "{span:#}\n{root:#}");
        }
        assert!(spans.iter().all(|span| span["trace"] == "0af7651916cd43dd8448eb211c80319c"));
        assert!(spans.iter().all(|span| span["service"] == "agenticore"));
        let ids: std::collections::BTreeSet<&str> = spans.iter().map(|span| span["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), spans.len(), "each has an id of its own");
        let attributes = &root["attributes"];
        assert_eq!(attributes["agenticore.job.id"]["stringValue"], json!(id));
        assert_eq!(attributes["agenticore.job.status"]["stringValue"], json!("succeeded"), "{job:#}");
        assert_eq!(attributes["agenticore.label.team"]["stringValue"], json!("core"));
        let note = attributes["agenticore.label.note"]["stringValue"].as_str().unwrap();
        assert!(!note.contains("of-this-test"), "{note}");
        // The agent's own spans stand below.
        let dump: Value = serde_json::from_str(&std::fs::read_to_string(dump).unwrap()).unwrap();
        let of_agent = named(&spans, "agent")["id"].as_str().unwrap().to_owned();
        let wanted = format!("00-0af7651916cd43dd8448eb211c80319c-{of_agent}-01");
        assert_eq!(dump["environment"]["TRACEPARENT"], json!(wanted), "{dump:#}");
        // One that fails, and one that never began.
        let failed = server.run(json!({"task": "[[error no]]"}));
        let of = |spans: &[Value], id: &Value| {
            let found = spans.iter().find(|span| span["attributes"]["agenticore.job.id"]["stringValue"] == *id);
            found.cloned()
        };
        let spans = collector.wait_for("it is told", |spans| of(spans, &failed["id"]).is_some());
        let told = of(&spans, &failed["id"]).unwrap();
        assert!(told["error"] == true && told["message"] != "" && told["parent"] == "", "{told:#}");
        // Who called and follows nothing is heeded.
        let silent = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let (_, answer) = server.send("/jobs", &[("traceparent", silent)], r#"{"task":"t"}"#);
        server.wait(answer["job"]["id"].as_str().unwrap());
        server.stop();
        assert!(!collector.spans().iter().any(|span| span["trace"].as_str().unwrap().starts_with("1af")));
    }
}

#[test]
fn claudes_spans_stand_below_the_agents() {
    let (messages, collector) = (Messages::start(), Collector::start());
    let Some(cli) = cli() else { return };
    let lab = Lab::new()
        .with("AGENTICORE_CLAUDE_BINARY", cli.display().to_string())
        .with("ANTHROPIC_API_KEY", "sk-ant-made-up-for-tests")
        .with("ANTHROPIC_BASE_URL", messages.url());
    let lab = collector.lab(lab, "http/protobuf");
    let server = lab.serve();
    let job = server.run(json!({"task": "Please [[bash echo hi]] [[say done]]"}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let is_whole = |spans: &[Value]| {
        let has = |name: &str| spans.iter().any(|span| span["name"] == name);
        has("job") && has("agent") && has("claude_code.interaction")
    };
    let spans = collector.wait_for("both told", is_whole);
    let (agent, claude) = (named(&spans, "agent"), named(&spans, "claude_code.interaction"));
    assert_eq!((&claude["trace"], &claude["parent"]), (&agent["trace"], &agent["id"]), "{spans:#?}");
    assert_eq!(claude["service"], "claude-code");
    let paths: Vec<String> = collector.sent.lock().unwrap().iter().map(|(path, _, _)| path.clone()).collect();
    assert!(paths.contains(&"/v1/metrics".to_owned()) && paths.contains(&"/v1/logs".to_owned()), "{paths:?}");
    server.stop();
}

#[test]
fn a_collector_that_is_away_or_silent_costs_the_job_nothing() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = ["http://127.0.0.1:9".to_owned(), format!("http://{}", silent.local_addr().unwrap())];
    for url in urls {
        let lab = Lab::new()
            .with("AGENTICORE_OTEL_ENABLED", "true")
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            .with("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let server = lab.serve();
        let job = server.run(json!({"task": "[[say hi]]"}));
        assert_eq!(job["status"], "succeeded", "{job:#}");
        server.stop();
        lab.assert_tidy();
    }
    let lab = Lab::new().with("AGENTICORE_OTEL_ENABLED", "true");
    let server = lab.serve();
    server.run(json!({"task": "t"}));
    assert_eq!(server.log().matches("OTEL_EXPORTER_OTLP_PROTOCOL is grpc").count(), 1, "{}", server.log());
    server.stop();
}
