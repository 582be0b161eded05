//! A stand-in for `claude`: does what its task says in `[[verb argument]]` markers, in order, and
//! speaks Claude's `stream-json`. What the real one refuses (flags, empty prompts, a missing HOME), it
//! refuses too, in the same words. For tests, benchmarks and the demo.
//!
//! ```text
//! [[write PATH TEXT]] [[bash COMMAND]] [[commit MESSAGE]]   tools
//! [[say TEXT]]                    the final text ("ok")
//! [[sleep MS]] [[wait-for PATH]]  quiet, until PATH is there
//! [[count PATH]]                  adds a line to PATH: how often the agent ran
//! [[dump PATH]]                   arguments, environment, prompt and directory as JSON
//! [[daemon PATH]]                 leaves a process behind that left its session; its id in PATH
//! [[limited PATH SECONDS]]        as at a usage limit that ends in so many seconds, unless PATH is there
//! [[error TEXT]]                  a result that is an error, exit code 1
//! [[cost USD]]                    what the result says it cost (0.01)
//! [[exit CODE]] [[signal N]]      ends so, without a result
//! [[mute]]                        no result, exit code 0
//! [[stubborn]]                    SIGTERM does not end it
//! [[linger]]                      a result, and then no end
//! [[raw TEXT]]                    a line that is no event
//! [[big BYTES]]                   the final text is so long
//! [[bytes]]                       a text that is not valid UTF-8, an unknown event, half a line
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio, exit};
use std::time::Duration;

/// Flag, and how many values follow: 0, 1, or any number.
const FLAGS: &[(&str, usize)] = &[
    ("-p", 0),
    ("--verbose", 0),
    ("--strict-mcp-config", 0),
    ("--dangerously-skip-permissions", 0),
    ("--output-format", 1),
    ("--setting-sources", 1),
    ("--model", 1),
    ("--max-turns", 1),
    ("--permission-mode", 1),
    ("--resume", 1),
    ("--effort", 1),
    ("--append-system-prompt", 1),
    ("--append-system-prompt-file", 1),
    ("--settings", 1),
    ("--allowed-tools", 99),
    ("--disallowed-tools", 99),
    ("--tools", 99),
    ("--add-dir", 99),
    ("--mcp-config", 99),
];

fn die(code: i32, why: &str) -> ! {
    eprintln!("{why}");
    exit(code)
}

struct Asked {
    flags: Vec<(String, Vec<String>)>,
}

impl Asked {
    fn parse() -> Self {
        let mut flags: Vec<(String, Vec<String>)> = Vec::new();
        for argument in std::env::args().skip(1) {
            if let Some((known, _)) = FLAGS.iter().find(|(known, _)| *known == argument) {
                flags.push((known.to_string(), Vec::new()));
                continue;
            }
            let room = flags.last().map_or(0, |(flag, values)| {
                FLAGS.iter().find(|(known, _)| known == flag).unwrap().1.saturating_sub(values.len())
            });
            match flags.last_mut() {
                Some((_, values)) if room > 0 && !argument.starts_with('-') => values.push(argument),
                _ => die(1, &format!("error: unknown option '{argument}'")),
            }
        }
        let asked = Self { flags };
        for (flag, values) in &asked.flags {
            if values.is_empty() && FLAGS.iter().any(|(known, count)| known == flag && *count > 0) {
                die(1, &format!("error: option '{flag}' argument missing"));
            }
        }
        asked
    }

    fn values(&self, flag: &str) -> &[String] {
        self.flags.iter().find(|(known, _)| known == flag).map(|(_, values)| &values[..]).unwrap_or_default()
    }

    fn check(&self) {
        if !self.flags.iter().any(|(flag, _)| flag == "-p") {
            die(1, "this stand-in is for -p only");
        }
        if self.values("--output-format") != ["stream-json"] || !self.flags.iter().any(|(flag, _)| flag == "--verbose")
        {
            die(1, "Error: When using --print, --output-format=stream-json requires --verbose");
        }
        let modes = ["acceptEdits", "auto", "bypassPermissions", "manual", "dontAsk", "plan"];
        for mode in self.values("--permission-mode") {
            if !modes.contains(&mode.as_str()) {
                die(1, &format!("error: option '--permission-mode <mode>' argument '{mode}' is invalid"));
            }
        }
        for file in self.values("--mcp-config").iter().chain(self.values("--append-system-prompt-file")) {
            let text =
                std::fs::read_to_string(file).unwrap_or_else(|_| die(1, &format!("Error: file not found: {file}")));
            if file.ends_with(".json") && serde_json::from_str::<Value>(&text).is_err() {
                die(1, &format!("Error: Invalid MCP configuration: {file}"));
            }
        }
    }
}

fn emit(event: Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{event}").and_then(|()| out.flush());
}

fn text(text: &str) {
    emit(json!({"type": "assistant", "message": {"role": "assistant", "content": [{"type": "text", "text": text}]}}));
}

fn tool(name: &str, input: Value, result: Result<String, String>) {
    emit(json!({"type": "assistant", "message": {"content": [{"type": "tool_use", "name": name, "input": input}]}}));
    let (said, is_error) = result.map_or_else(|error| (error, true), |said| (said, false));
    let content = json!([{"type": "tool_result", "content": said, "is_error": is_error}]);
    emit(json!({"type": "user", "message": {"content": content}}));
}

/// What Claude says when the API refuses it because of a usage limit, word for word.
fn limited(seconds: u64, session: &str) -> ! {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let info = json!({"status": "rejected", "resetsAt": now + seconds, "rateLimitType": "five_hour"});
    let said = "You've hit your 5-hour limit \u{b7} resets 12:45am (UTC)";
    emit(json!({"type": "rate_limit_event", "rate_limit_info": info, "session_id": session}));
    emit(json!({"type": "assistant", "message": {"model": "<synthetic>", "content": [{"type": "text", "text": said}]},
        "error": "rate_limit", "is_api_error_message": true, "api_error_status": 429, "session_id": session}));
    emit(json!({"type": "result", "subtype": "success", "is_error": true, "api_error_status": 429, "result": said,
        "terminal_reason": "api_error", "num_turns": 1, "total_cost_usd": 0, "session_id": session}));
    exit(1)
}

fn shell(command: &str) -> Result<String, String> {
    // As Claude does it: a session of its own, nothing to read.
    let done = Command::new("setsid")
        .args(["--wait", "sh", "-c", command])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if done.status.success() { Ok(said) } else { Err(said) }
}

fn markers(prompt: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = prompt;
    while let Some((_, after)) = rest.split_once("[[") {
        let Some((marker, more)) = after.split_once("]]") else { break };
        let (verb, argument) = marker.split_once(' ').unwrap_or((marker, ""));
        found.push((verb.to_owned(), argument.to_owned()));
        rest = more;
    }
    found
}

/// A session is known by its transcript, as with the real one.
fn session(asked: &Asked) -> String {
    let config = PathBuf::from(std::env::var_os("CLAUDE_CONFIG_DIR").unwrap_or_else(|| die(1, "no CLAUDE_CONFIG_DIR")));
    let projects = config.join("projects");
    if let [resumed] = asked.values("--resume") {
        let known = std::fs::read_dir(&projects).into_iter().flatten().flatten();
        if !known.map(|project| project.path()).any(|project| project.join(format!("{resumed}.jsonl")).is_file()) {
            let error = format!("No conversation found with session ID: {resumed}");
            emit(
                json!({"type": "result", "subtype": "error_during_execution", "is_error": true, "errors": [error], "num_turns": 0}),
            );
            exit(1);
        }
        return resumed.clone();
    }
    let session = uuid::Uuid::new_v4().to_string();
    let project = projects.join("-project");
    std::fs::create_dir_all(&project).unwrap_or_else(|error| die(1, &format!("{error}")));
    std::fs::write(project.join(format!("{session}.jsonl")), "{}\n").unwrap();
    session
}

fn main() {
    let asked = Asked::parse();
    asked.check();
    let home = std::env::var("HOME").unwrap_or_else(|_| die(1, "ENOENT uv_os_homedir"));
    let temporary = PathBuf::from(std::env::var_os("TMPDIR").unwrap_or_else(|| "/tmp".into()));
    if std::fs::create_dir_all(temporary.join("claude-0")).is_err() {
        die(1, "EACCES: permission denied, mkdir TMPDIR");
    }
    let mut prompt = String::new();
    let _ = std::io::stdin().read_to_string(&mut prompt);
    if prompt.is_empty() {
        die(1, "Error: Input must be provided either through stdin or as a prompt argument when using --print");
    }
    let session = session(&asked);
    emit(json!({"type": "system", "subtype": "init", "session_id": session, "cwd": std::env::current_dir().unwrap()}));
    if prompt.starts_with("/cost") {
        emit(
            json!({"type": "result", "subtype": "success", "is_error": false, "num_turns": 0, "local_command": "cost", "result": "Estimated cost", "total_cost_usd": 0.0, "session_id": session}),
        );
        exit(0);
    }
    let mut said = "ok".to_owned();
    let mut cost = 0.01;
    let (mut is_error, mut lingers, mut turns) = (false, false, 1);
    for (verb, argument) in markers(&prompt) {
        let (first, rest) = argument.split_once(' ').unwrap_or((&argument, ""));
        turns += 1;
        match verb.as_str() {
            "write" => {
                let path = PathBuf::from(first);
                let written = std::fs::create_dir_all(path.parent().unwrap())
                    .and_then(|()| std::fs::write(&path, format!("{rest}\n")));
                tool(
                    "Write",
                    json!({"file_path": first, "content": rest}),
                    written.map(|()| "written".into()).map_err(|e| e.to_string()),
                );
            }
            "bash" => tool("Bash", json!({"command": argument}), shell(&argument)),
            "commit" => {
                let commit = format!("git add -A && git commit -q -m '{argument}'");
                tool("Bash", json!({"command": commit}), shell(&commit));
            }
            "say" => said = argument,
            "sleep" => std::thread::sleep(Duration::from_millis(argument.parse().unwrap())),
            "wait-for" => {
                while !PathBuf::from(&argument).exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            "count" => {
                let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&argument).unwrap();
                file.write_all(b"ran\n").unwrap();
            }
            "dump" => {
                let environment: serde_json::Map<String, Value> =
                    std::env::vars().map(|(k, v)| (k, json!(v))).collect();
                let arguments: Vec<String> = std::env::args().skip(1).collect();
                let all = json!({"arguments": arguments, "environment": environment, "prompt": prompt, "home": home,
                    "directory": std::env::current_dir().unwrap()});
                std::fs::write(&argument, all.to_string()).unwrap();
            }
            "daemon" => {
                // Leaves session, environment and parent, as `setsid … &` in a shell does.
                let script = format!("env -i sh -c 'echo $$ > {argument}; while :; do sleep 0.05 || :; done' & exit 0");
                let mut command = Command::new("setsid");
                command.args(["sh", "-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                command.spawn().unwrap().wait().unwrap();
                while std::fs::metadata(&argument).map_or(0, |found| found.len()) == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            "limited" if PathBuf::from(first).exists() => {}
            "limited" => limited(rest.parse().unwrap(), &session),
            "cost" => cost = argument.parse().unwrap(),
            "error" => (is_error, said) = (true, argument),
            "exit" => exit(argument.parse().unwrap()),
            "signal" => {
                let _ = Command::new("sh").args(["-c", &format!("kill -{argument} $PPID")]).exec_and_wait();
            }
            "mute" => exit(0),
            "stubborn" => {
                let ignored = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
                signal_hook::flag::register(signal_hook::consts::SIGTERM, ignored).unwrap();
            }
            "linger" => lingers = true,
            "raw" => println!("{argument}"),
            "big" => said = "x".repeat(argument.parse().unwrap()),
            "bytes" => {
                let mut out = std::io::stdout().lock();
                out.write_all(
                    b"{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"caf\xe9\"}]}}\n",
                )
                .unwrap();
                out.write_all(b"{\"type\":\"from_the_future\",\"x\":[{}]}\n").unwrap();
            }
            other => die(1, &format!("the stand-in knows no [[{other}]]")),
        }
    }
    text(&said);
    emit(json!({"type": "result", "subtype": "success", "is_error": is_error, "num_turns": turns, "result": said,
        "session_id": session, "total_cost_usd": cost, "usage": {"input_tokens": 100, "output_tokens": 20}, "permission_denials": []}));
    if lingers {
        std::thread::sleep(Duration::from_secs(3600));
    }
    exit(i32::from(is_error));
}

trait ExecAndWait {
    fn exec_and_wait(&mut self) -> std::io::Result<()>;
}

impl ExecAndWait for Command {
    /// Runs a shell that signals us, and waits for what it did.
    fn exec_and_wait(&mut self) -> std::io::Result<()> {
        self.process_group(0).spawn()?.wait()?;
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    }
}
