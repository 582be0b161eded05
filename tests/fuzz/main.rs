//! Texts from outside, made at random from ones that mean something: whatever they are, a judge answers, and what it lets
//! pass keeps its promises. Seeded: `AGENTICORE_FUZZ_SEED=N` draws other texts, `AGENTICORE_FUZZ_ROUNDS=N` more of them
//! (`make fuzz`). A failure names the text.
#![allow(clippy::unwrap_used)]

mod texts;

use agenticore::judges::{TraceParent, addresses, api, head, profile, refname, shown, stream, url, webhook};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use texts::Texts;

/// Of one judge in a test run.
const ROUNDS: usize = 10_000;

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Tries `judge` on many texts; `seeds`: what they are made from.
fn loop_over(name: &str, seeds: &[&str], judge: impl Fn(&[u8])) {
    let seed = number("AGENTICORE_FUZZ_SEED", 1);
    let mut texts = Texts::new(seed as u64, seeds);
    for round in 0..number("AGENTICORE_FUZZ_ROUNDS", ROUNDS) {
        let text = texts.next();
        if catch_unwind(AssertUnwindSafe(|| judge(&text))).is_err() {
            let shown = text.escape_ascii();
            panic!("{name}, seed {seed}, round {round}: it fails on b\"{shown}\"");
        }
    }
}

#[test]
fn a_request_s_head_is_refused_or_whole() {
    let seeds = [
        "GET /jobs?limit=3 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n{\"task\":\"t\"}",
        "GET http://a.example:80/x?y HTTP/1.1\r\nHost: b\r\nConnection: close, keep-alive\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "\r\nDELETE /jobs/3f2a HTTP/1.1\nHost: a\n\n",
    ];
    loop_over("head", &seeds, |bytes| match head::parse(bytes) {
        Ok(Some((found, length))) => {
            assert!(length <= bytes.len() && bytes[..length].ends_with(b"\r\n"), "its end is in the text");
            assert!(found.all("host").count() <= 1 && found.header("transfer-encoding").is_none());
            assert!(found.body_length <= 1 << 20);
            let lengths: Vec<&str> = found.all("content-length").collect();
            assert!(lengths.len() <= 1 && lengths.first().map_or("0", |text| text).parse() == Ok(found.body_length));
            assert!(!found.path.contains(['\0', ' ', '?']) && !found.query.contains([' ', '\0']));
            // What follows is the body's or the next request's: it changes nothing.
            let (again, same) = head::parse(&bytes[..length]).unwrap().unwrap();
            assert_eq!((again.path, again.query, same), (found.path, found.query, length));
        }
        Ok(None) => assert!(bytes.len() < head::HEAD_LIMIT),
        Err(head::Refused(status, why)) => assert!((400..500).contains(&status) && !why.is_empty()),
    });
}

#[test]
fn a_webhook_of_a_job_leads_to_the_internet() {
    let seeds = [
        "https://hooks.example.com:8443/T000/secret?x=y",
        "http://127.0.0.1:80/",
        "http://[::ffff:10.0.0.1]:99/x",
        "http://0x7f.1/",
        "https://u:p@2130706433/a@b",
        "http://169.254.169.254#x",
        "http://localhost.:8200/",
    ];
    loop_over("webhook", &seeds, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if webhook::judge(text, false).is_err() {
            return;
        }
        let (scheme, rest) = text.split_once("://").unwrap();
        assert!(["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) && !text.contains([' ', '\n', '#']));
        let authority = rest.split(['/', '?']).next().unwrap();
        assert!(!authority.contains('@'));
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap(),
            None => authority.split(':').next().unwrap(),
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        assert!(host != "localhost" && !host.ends_with(".localhost"));
        assert!(addresses::spelled(&host).is_none_or(addresses::is_public), "{host}");
        // What is shown of it holds neither its path nor its query.
        let shown = webhook::shown(text);
        assert!(!shown.contains('?') && shown.len() <= text.len() + 20, "{shown}");
    });
}

#[test]
fn a_traceparent_is_what_it_says() {
    let seeds = [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what",
        "00-00000000000000000000000000000000-0000000000000000-00",
    ];
    loop_over("traceparent", &seeds, |bytes| {
        let Some(found) = std::str::from_utf8(bytes).ok().and_then(TraceParent::parse) else { return };
        assert_eq!(TraceParent::parse(&found.to_string()), Some(found));
        assert!(found.trace_id != [0; 16] && found.span_id != [0; 8]);
    });
}

#[test]
fn a_repository_that_is_accepted_is_no_option_and_no_helper() {
    let seeds = [
        "https://github.com/you/project.git",
        "ssh://git@host:22/a/b",
        "git@host:path/to.git",
        "/srv/git/x.git",
        "file:///srv/x",
        "ext::sh -c touch% /tmp/x",
        "https://user:password@host/x?y#z",
        "http://127.0.0.1:3000/a/../b",
        "--upload-pack=touch /tmp/x",
        "https://[::1]:8080/x",
    ];
    let all = url::Policy { allow_local: true, allow_http: true };
    loop_over("url", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match url::judge(&text, all) {
            Ok(found) => {
                assert_eq!(found.as_str(), text);
                assert!(!text.starts_with('-') && !text.contains("::/") && !text.starts_with("ext:"));
                assert!(!text.chars().any(|c| c.is_control() || c.is_whitespace()));
                assert!(found.key().len() == 12 && found.key().bytes().all(|b| b.is_ascii_hexdigit()));
                let is_local = matches!(found.transport, url::Transport::Local);
                assert!(is_local || !found.host.is_empty(), "a host");
                assert!(text.len() <= 2048);
                let is_web = matches!(found.transport, url::Transport::Https | url::Transport::Http);
                let authority = text.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
                assert!(!is_web || !(authority.contains('@') || text.contains(['?', '#'])), "no password, no query");
                assert!(is_local || !found.host.starts_with('-') && !found.host.contains(['/', '@']));
                // By default: no directory of this machine, and no plain http but to this machine.
                let by_default = url::judge(&text, url::Policy::default()).is_ok();
                let host = found.host.rsplit_once(':').map_or(found.host.as_str(), |(host, _)| host);
                let is_here = host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
                    || host.eq_ignore_ascii_case("localhost")
                    || found.host.starts_with("[::1]");
                let is_plain = matches!(found.transport, url::Transport::Http);
                assert_eq!(by_default, !is_local && (!is_plain || is_here), "{text}");
            }
            Err(why) => assert!(!why.is_empty()),
        }
    });
}

/// Git is asked about those that pass: it has the last word on what a branch may be called.
#[test]
fn a_name_that_is_accepted_is_one_for_git() {
    let seeds = ["main", "feature/x-1", "refs/heads/a", "v1.2.3", "a..b", "a.lock", "@{1}", "-x", "x/.y", "ü/ö", "a~1"];
    let asked = std::sync::atomic::AtomicUsize::new(0);
    loop_over("refname", &seeds, |bytes| {
        let name = String::from_utf8_lossy(bytes);
        if refname::judge(&name).is_err() {
            return;
        }
        assert!(!name.starts_with(['-', '+']) && !name.contains("..") && !name.chars().any(char::is_control));
        if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(37) {
            let full = if name.starts_with("refs/") { name.into_owned() } else { format!("refs/heads/{name}") };
            let mut git = Command::new("git");
            let said = git.args(["check-ref-format", &full]).stdin(Stdio::null()).status().unwrap();
            assert!(said.success(), "git does not take it");
        }
    });
    assert!(asked.into_inner() > 100, "too few names passed for the test to say anything");
}

#[test]
fn what_an_agent_prints_is_read_alike_in_whatever_pieces_it_comes() {
    let seeds = [
        r#"{"type":"system","subtype":"init","session_id":"x","tools":["Bash"],"model":"m"}"#,
        r#"{"type":"assistant","message":{"content":[{"type":"text","text":"h\u00e4\ud83d\ude00"}]}}"#,
        r#"{"type":"user","message":{"content":[{"type":"tool_result","content":"x","is_error":true}]}}"#,
        r#"{"type":"result","subtype":"success","is_error":false,"result":"done","total_cost_usd":0.5,"num_turns":3}"#,
        "not JSON at all\n{\"type\":",
        "{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"\\ud83d \\u+12f \\x\"}]}}\n",
    ];
    let lines_of = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut lines, mut found) = (stream::Lines::default(), Vec::new());
        pieces.for_each(|piece| lines.feed(piece, |line| found.push(line)));
        found.extend(lines.finish());
        found
    };
    loop_over("stream", &seeds, |bytes| {
        let whole = lines_of(&mut [bytes].into_iter());
        assert_eq!(whole, lines_of(&mut bytes.chunks(1 + bytes.len() % 7)));
        for output in whole.iter().flat_map(stream::read) {
            // What is read is text for a record: it has an end.
            assert!(format!("{output:?}").len() < 1 << 20);
        }
    });
}

#[test]
fn a_profile_is_read_or_refused_with_a_reason() {
    let seeds = [
        "description: x\nextends: coding\nauto_pr: true\nsubmodules: recursive\nclaude:\n  timeout: 1800\n  model: haiku\n",
        "claude: {max_turns: 20, allowed_tools: [Bash, Read], worktree: false}",
        "a: &a [*a]\nb: !!binary x\n",
        "? {a: b}\n: [1, 2]\n",
        "claude:\n  - x\n--- \nname: y\n",
    ];
    loop_over("profile", &seeds, |bytes| {
        if let Err(why) = profile::layer(&String::from_utf8_lossy(bytes)) {
            assert!(!why.is_empty());
        }
    });
    // What would take the runner's own flags away is refused, however it is spelled.
    for key in ["output-format", "output_format", "print", "resume", "setting_sources", "strict-mcp-config", "p"] {
        assert!(profile::layer(&format!("claude: {{{key}: x}}")).is_err(), "{key}");
    }
}

#[test]
fn what_is_shown_orders_nothing_and_fits() {
    let seeds = [
        "a\u{1b}[2Jb",
        "\u{202e}gnp.exe\u{2066}",
        "❤️❤️ 文字化け",
        "one\ntwo\r\nthree",
        "\u{200b}\u{feff}\u{61c}x",
        "e\u{301}e\u{301}",
    ];
    loop_over("shown", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let line = shown::line(&text);
        assert!(!line.contains(['\n', '\r', '\u{1b}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{2028}']));
        assert!(!line.chars().any(char::is_control) && shown::line(&line) == line, "once is enough");
        for width in [0, 1, 7, 30] {
            for which in [shown::Cut::End, shown::Cut::Begin] {
                assert!(shown::width(&shown::cut(&line, width, which)) <= width);
            }
        }
    });
}

#[test]
fn a_body_is_a_request_or_a_sentence() {
    let seeds = [
        r#"{"task":"fix it","repo_url":"https://a.example/b","wait":true,"private":false}"#,
        r#"{"task":"\u0000\ud800","profile":null,"base_ref":""}"#,
        r#"[{"task":1}]"#,
        r#"{"wait":false}"#,
        "00001-000002",
    ];
    loop_over("api", &seeds, |bytes| {
        if let Ok(request) = api::JobRequest::parse(bytes) {
            assert!(!request.task.trim().is_empty());
            let again = serde_json::to_vec(&request).unwrap();
            assert_eq!(api::JobRequest::parse(&again).unwrap(), request, "it is the same when it is sent again");
        }
        let refusals = [
            api::RetryRequest::parse(bytes).err(),
            api::PlanRequest::parse(bytes).err(),
            api::WorktreeRequest::parse(bytes).err(),
            api::cursor(&String::from_utf8_lossy(bytes)).err(),
            api::moment(&String::from_utf8_lossy(bytes)).err(),
        ];
        assert!(refusals.iter().flatten().all(|why| !why.is_empty()));
    });
}
