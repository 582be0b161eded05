//! agentihooks and a bundle of profiles: cloned once, fetched again when asked, installed below every profile. With the
//! real package from PyPI, and with a small one of the same shape that needs no network.

use crate::support::fleet::Fleet;
use crate::support::messages::Messages;
use crate::support::repo::git;
use crate::support::{Lab, Repo, Server, eventually};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// A build backend that needs nothing: an editable install is a file that names the checkout.
const BACKEND: &str = r#"
import base64, hashlib, os, zipfile

def get_requires_for_build_editable(config_settings=None):
    return []

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name, info = "agentihooks-0.0.1-py3-none-any.whl", "agentihooks-0.0.1.dist-info"
    files = {
        "__editable_agentihooks.pth": os.getcwd() + "\n",
        info + "/METADATA": "Metadata-Version: 2.1\nName: agentihooks\nVersion: 0.0.1\n",
        info + "/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        info + "/entry_points.txt": "[console_scripts]\nagentihooks = its_command:main\n",
    }
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(info + "/RECORD", "".join(path + ",,\n" for path in files))
    return name
"#;

const PYPROJECT: &str = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n\
                         [project]\nname = \"agentihooks\"\nversion = \"0.0.1\"\n";

/// As the real command: knows `init` and a profile `default` alone, and writes below HOME.
fn its_command(version: &str) -> String {
    format!(
        r#"
import os, sys

def main():
    words = sys.argv[1:]
    assert words[0] == "init" and "--target" in words, words
    profile = words[words.index("--profile") + 1]
    if profile != "default":
        sys.exit("ERROR: No profile in chain '" + profile + "' could be resolved.")
    claude = os.path.join(os.environ["HOME"], ".claude")
    os.makedirs(os.path.join(claude, "rules"), exist_ok=True)
    with open(os.path.join(claude, "rules", "its.md"), "w") as file:
        file.write("{version} " + (words[words.index("--bundle") + 1] if "--bundle" in words else "no bundle"))
    with open(os.path.join(os.environ["HOME"], ".claude.json"), "w") as file:
        file.write('{{"mcpServers": {{"its": {{"command": "true"}}}}}}')
"#
    )
}

fn its_repository(lab: &Lab) -> Repo {
    let repo = Repo::with_commit(&lab.path("agentihooks.git"));
    let profile = "description: from the checkout\nauto_pr: false\n";
    let files = [
        ("pyproject.toml", PYPROJECT),
        ("backend.py", BACKEND),
        ("its_command.py", &its_command("one")),
        ("profiles/from-hooks/profile.yml", profile),
    ];
    repo.commit("main", &files);
    repo
}

/// What a job finds of it in its own configuration.
fn found_by_job(lab: &Lab, server: &Server) -> String {
    let found = lab.path("found");
    let places = "$CLAUDE_CONFIG_DIR/rules/its.md $CLAUDE_CONFIG_DIR/../.mcp.json";
    let job = server.run(json!({"task": format!("[[bash cat {places} > {}]]", found.display())}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    std::fs::read_to_string(found).unwrap()
}

fn has_python() -> bool {
    let is_there = Command::new("python3").args(["-m", "ensurepip", "--version"]).output();
    let is_there = is_there.is_ok_and(|done| done.status.success());
    assert!(is_there || std::env::var_os("CI").is_none(), "CI has python3-venv");
    if !is_there {
        eprintln!("SKIPPED: python3-venv is not here");
    }
    is_there
}

#[test]
fn a_checkout_is_cloned_once_installed_and_fetched_again_when_asked() {
    if !has_python() {
        return;
    }
    let lab = Lab::new();
    let repo = its_repository(&lab);
    let bundle = Repo::with_commit(&lab.path("bundle.git"));
    bundle.commit("main", &[("profiles/from-bundle/profile.yml", "extends: coding\n")]);
    let lab = lab
        .with("AGENTICORE_AGENTIHOOKS_URL", repo.url())
        .with("AGENTICORE_AGENTIHOOKS_BUNDLE_URL", bundle.url())
        .with("AGENTICORE_AGENTIHOOKS_SYNC_INTERVAL", "300");
    let server = lab.serve();
    assert!(found_by_job(&lab, &server).contains("one "), "{}", server.log());
    let told = found_by_job(&lab, &server);
    assert!(told.contains("agentihooks-bundle") && told.contains("its"), "{told}");
    assert!(server.log().contains("AGENTICORE_AGENTIHOOKS_SYNC_INTERVAL does nothing any more"));
    let profiles = server.get("/profiles").1.to_string();
    assert!(profiles.contains("from-hooks") && profiles.contains("from-bundle"), "{profiles}");

    let which = lab.path("which");
    let find = format!("(command -v agentihooks; command -v python3) > {}", which.display());
    let job = server.run(json!({"task": format!("[[bash {find}]]")}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let which = std::fs::read_to_string(which).unwrap();
    assert!(which.lines().next().unwrap().ends_with("agentihooks.d/bin/agentihooks"), "{which}");
    assert!(!which.lines().nth(1).unwrap().contains("agentihooks.d"), "{which}");

    // The home of the server's user is its own.
    assert!(!lab.path("home/.claude/rules").exists());

    repo.commit("main", &[("its_command.py", &its_command("two"))]);
    assert!(found_by_job(&lab, &server).contains("one "), "nothing is fetched by itself");
    let (status, answer) = server.send("/admin/sync?target=agentihooks", &[], "");
    assert_eq!((status, &answer["synced"][0]["changed"]), (200, &json!(true)), "{answer}");
    assert!(found_by_job(&lab, &server).contains("two "));
    let (status, answer) = server.send("/admin/sync", &[], "");
    let changed: Vec<&Value> = answer["synced"].as_array().unwrap().iter().map(|one| &one["changed"]).collect();
    assert_eq!((status, changed), (200, vec![&json!(false); 2]), "{answer}");
    assert_eq!(server.send("/admin/sync?target=hooks", &[], "").0, 400);

    // What somebody changed there stays, and is said.
    let path = answer["synced"][0]["path"].as_str().unwrap();
    std::fs::write(Path::new(path).join("its_command.py"), "mine").unwrap();
    let (status, refused) = server.send("/admin/sync?target=agentihooks", &[], "");
    assert!(status == 503 && refused["error"].as_str().unwrap().contains("was changed by somebody"), "{refused}");
    assert_eq!(std::fs::read_to_string(Path::new(path).join("its_command.py")).unwrap(), "mine");
    let _ = git(Path::new(path), &["checkout", "--quiet", "--", "its_command.py"]);

    // The command does the same beside the server.
    repo.commit("main", &[("its_command.py", &its_command("three"))]);
    let done = lab.run(&["hooks", "sync", "--target", "agentihooks", "--json"]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains("\"changed\": true"), "{said} {:?}", done);
    assert!(found_by_job(&lab, &server).contains("three "));
    server.stop();
    // Cloned once: with the repository gone the server starts, and what is there is used.
    std::fs::rename(lab.path("agentihooks.git"), lab.path("gone.git")).unwrap();
    let server = lab.serve();
    assert!(found_by_job(&lab, &server).contains("three "));
    let (status, refused) = server.send("/admin/sync?target=agentihooks", &[], "");
    assert!(status == 503 && refused["error"].as_str().unwrap().contains("agentihooks.git"), "{refused}");
    server.stop();
}

#[test]
fn what_cannot_be_fetched_stops_no_start_and_is_said() {
    let lab = Lab::new().with("AGENTICORE_AGENTIHOOKS_URL", "file:///nonexistent/agentihooks.git");
    let server = lab.serve();
    let job = server.run(json!({"task": "[[say it runs all the same]]"}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    eventually("it is said", || server.log().contains("/nonexistent/agentihooks.git").then_some(()));
    assert!(server.log().contains("agents run without it"), "{}", server.log());
    server.stop();
    let told = |arguments: &[&str]| {
        let done = Lab::new().run(arguments);
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (code, said) = told(&["hooks", "sync", "--target", "bundle"]);
    assert!(code == Some(2) && said.contains("AGENTICORE_AGENTIHOOKS_BUNDLE_URL"), "{code:?} {said}");
    let (code, said) = told(&["hooks", "sync", "--target", "x"]);
    assert!(code == Some(2) && said.contains("all, agentihooks or bundle"), "{code:?} {said}");
    let (code, said) = told(&["hooks", "sync", "--url", "/nonexistent/x.git"]);
    assert!(code == Some(1) && said.contains("/nonexistent/x.git"), "{code:?} {said}");
    assert_eq!(told(&["hooks", "pull"]).0, Some(2));
}

#[test]
fn pods_that_share_a_volume_share_the_clone() {
    let Some(fleet) = Fleet::new() else { return };
    if !has_python() {
        return;
    }
    let repo = its_repository(&fleet.lab);
    let url = repo.url();
    let settings = [("AGENTICORE_AGENTIHOOKS_URL", url.as_str())];
    let pods = [fleet.pod_with("pod-a", &settings), fleet.pod_with("pod-b", &settings)];
    let checkout = fleet.lab.path("shared/agentihooks");
    eventually("it is cloned", || checkout.join("its_command.py").exists().then_some(()));
    for pod in &pods {
        eventually("its layer is there", || pod.log().contains("lowest layer of all profiles").then_some(()));
    }
    assert!(found_by_job(&fleet.lab, &pods[0]).contains("one "));
    let done = fleet.command("pod-c", &["init-shared-fs"], &settings).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    fleet.finish(pods.into());
}

/// The real one, below a real Claude.
#[test]
fn the_real_agentihooks_is_below_every_profile() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/agentihooks.sh");
    let done = Command::new(script).output().unwrap();
    let bin = String::from_utf8_lossy(&done.stdout).trim().lines().last().unwrap_or_default().to_owned();
    if !done.status.success() {
        assert!(std::env::var_os("CI").is_none(), "CI has agentihooks: {done:?}");
        eprintln!("SKIPPED: agentihooks is not here");
        return;
    }
    let Some(claude) = crate::claude::cli() else { return };
    let messages = Messages::start();
    let lab = Lab::new();
    let path = format!("{bin}:{}", lab.variables["PATH"]);
    let lab = lab
        .with("PATH", path)
        .with("AGENTICORE_AGENTIHOOKS", "true")
        .with("AGENTIHOOKS_PROFILE", "coding")
        .with("AGENTICORE_CLAUDE_BINARY", claude.display().to_string())
        .with("ANTHROPIC_API_KEY", "sk-ant-made-up-for-tests")
        .with("ANTHROPIC_BASE_URL", messages.url());
    let server = lab.serve();
    let job = server.run(json!({"task": "[[say with hooks]]"}));
    assert_eq!((&job["status"], &job["output"]), (&json!("succeeded"), &json!("with hooks")), "{job:#}");
    let directory = Path::new(job["job_config_dir"].as_str().unwrap()).parent().unwrap();
    let settings = directory.join(".claude/settings.json");
    let settings = std::fs::read_to_string(settings).unwrap_or_else(|_| panic!("{job:#} {}", server.log()));
    assert!(settings.contains("SessionStart") && settings.contains("-m hooks"), "{settings}");
    // Its links into the package are files here.
    let rule = directory.join(".claude/rules/agentihooks-toolbelt.md");
    assert!(std::fs::symlink_metadata(&rule).unwrap().is_file());
    assert!(std::fs::read_to_string(directory.join(".mcp.json")).unwrap().contains("hooks.mcp"));
    server.stop();
    lab.assert_no_process();
}
