//! The page at `/`, in a real Chromium; and what is served without one.

use crate::mcp_clients::clients;
use crate::support::*;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the browser's tools are, or None where they cannot be had; that is said, and in CI it is a failure.
fn tools() -> Option<PathBuf> {
    fetched("browser-tools.sh", "a browser")
}

/// With PAGE_SCREENSHOTS=DIRECTORY it leaves pictures there: `make screenshots`.
#[test]
fn a_person_uses_it_in_chromium() {
    let Some((tools, clients)) = tools().zip(clients()) else { return };
    let lab = Lab::new();
    let repo = lab.repo();
    let (open, locked) = (lab.serve(), Lab::new().with("AGENTICORE_API_KEYS", "sesame-sesame"));
    let keys = locked.path("keys.yml");
    std::fs::write(&keys, "- {name: reader, key: only-to-look, scopes: [read]}\n").unwrap();
    let locked = locked.with("AGENTICORE_API_KEYS_FILE", keys.display().to_string());
    let locked_server = locked.serve();
    let wanted = json!({
        "open": open.url,
        "locked": locked_server.url,
        "key": "sesame-sesame",
        "reader": "only-to-look",
        "repo": repo.url(),
        "shots": std::env::var("PAGE_SCREENSHOTS").ok(),
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/page.mjs");
    let done = Command::new(clients.join("node/bin/node"))
        .args([script.as_os_str(), tools.as_os_str(), wanted.to_string().as_ref()])
        .env("HOME", lab.path("home"))
        .env("TMPDIR", lab.path("tmp"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("the page is well"), "{said}\n{}", open.log());
    open.stop();
    locked_server.stop();
}

#[test]
fn it_is_served_to_anybody_and_harmless() {
    let lab = Lab::new().with("AGENTICORE_API_KEYS", "sesame-sesame");
    let server = lab.serve();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    for (path, kind) in [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        let mut answer = agent.get(format!("{}{path}", server.url)).call().unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert!(answer.status() == 200 && header("content-type").starts_with(kind), "{path}");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!((header("x-content-type-options"), header("cache-control")), ("nosniff".into(), "no-cache".into()));
        let text = answer.body_mut().read_to_string().unwrap();
        // The name of SVG's own language is no address.
        assert!(!text.replace("http://www.w3.org/2000/svg", "").contains("https://cdn"), "{path}");
    }
    assert_eq!(agent.delete(format!("{}/", server.url)).call().unwrap().status(), 405);
    assert_eq!(server.get("/jobs").0, 401);
    server.stop();
}
