//! A stand-in for GitHub: repositories over smart HTTP with a password (the real git http-backend)
//! and the REST API, as strict as the real one about what it is asked.

use super::http::{Asked, StandIn, Told};
use super::lfs::Lfs;
use super::repo::{Repo, git};
use base64::Engine;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub const TOKEN: &str = "ghs_a-token-of-the-tests";
pub const APP_ID: &str = "4711";
pub const INSTALLATION: &str = "815";

pub struct GitHub {
    server: StandIn,
    state: Arc<State>,
}

struct State {
    root: PathBuf,
    pulls: Mutex<Vec<Value>>,
    /// Statuses to answer the next API requests of this method with, instead of working.
    faults: Mutex<Vec<(String, u16)>>,
    complaints: Mutex<Vec<String>>,
    requests: Mutex<Vec<String>>,
    app_key: Mutex<Option<Vec<u8>>>,
    /// The App's next token lasts only minutes.
    short_token: AtomicBool,
    /// Repositories that have another name by now: the old one, and the new one.
    renamed: Mutex<Vec<(String, String)>>,
    /// While this file is there, git is not answered.
    hold: Mutex<Option<PathBuf>>,
    /// The next API request is not answered while this file is there.
    hang: Mutex<Option<PathBuf>>,
    is_hanging: AtomicBool,
    lfs: Lfs,
}

impl GitHub {
    pub fn start(root: &Path) -> Self {
        let state = Arc::new(State {
            root: root.to_owned(),
            pulls: Mutex::default(),
            faults: Mutex::default(),
            complaints: Mutex::default(),
            requests: Mutex::default(),
            app_key: Mutex::default(),
            short_token: AtomicBool::new(false),
            renamed: Mutex::default(),
            hold: Mutex::default(),
            hang: Mutex::default(),
            is_hanging: AtomicBool::new(false),
            lfs: Lfs::default(),
        });
        let answering = state.clone();
        let server = StandIn::start(move |asked| answering.answer(asked));
        Self { server, state }
    }

    /// The contents of the repositories' LFS files.
    pub fn lfs(&self) -> &Lfs {
        &self.state.lfs
    }

    /// A repository `owner/name` with one commit on `main`.
    pub fn repository(&self, slug: &str) -> Repo {
        Repo::with_commit(&self.state.root.join(format!("{slug}.git")))
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn repo_url(&self, slug: &str) -> String {
        format!("{}/{slug}.git", self.url())
    }

    /// What points a server at this GitHub.
    pub fn variables(&self) -> Vec<(String, String)> {
        vec![("GITHUB_SERVER_URL".into(), self.url()), ("GITHUB_API_URL".into(), format!("{}/api/v3", self.url()))]
    }

    pub fn variables_with_token(&self) -> Vec<(String, String)> {
        [self.variables(), vec![("GITHUB_TOKEN".into(), TOKEN.into())]].concat()
    }

    /// Installs a GitHub App; returns its private key.
    pub fn install_app(&self, directory: &Path) -> String {
        let key = directory.join("app.pem");
        let made =
            Command::new("openssl").args(["genrsa", "-traditional", "-out"]).arg(&key).arg("2048").output().unwrap();
        assert!(made.status.success(), "openssl is needed: {}", String::from_utf8_lossy(&made.stderr));
        let public = Command::new("openssl")
            .args(["rsa", "-RSAPublicKey_out", "-outform", "DER", "-in"])
            .arg(&key)
            .output()
            .unwrap();
        *self.state.app_key.lock().unwrap() = Some(public.stdout);
        std::fs::read_to_string(key).unwrap()
    }

    /// From now on the repository has another name; git and the API redirect from the old one.
    pub fn rename(&self, old: &str, new: &str) {
        let path = |slug: &str| self.state.root.join(format!("{slug}.git"));
        std::fs::create_dir_all(path(new).parent().unwrap()).unwrap();
        std::fs::rename(path(old), path(new)).unwrap();
        self.state.renamed.lock().unwrap().push((old.into(), new.into()));
    }

    pub fn fail_next(&self, method: &str, status: u16) {
        self.state.faults.lock().unwrap().push((method.into(), status));
    }

    /// While `file` is there, git is not answered.
    pub fn hold_while(&self, file: &Path) {
        *self.state.hold.lock().unwrap() = Some(file.to_owned());
    }

    /// The next API request is not answered while `file` is there.
    pub fn hang_next(&self, file: &Path) {
        *self.state.hang.lock().unwrap() = Some(file.to_owned());
    }

    pub fn is_hanging(&self) -> bool {
        self.state.is_hanging.load(Ordering::SeqCst)
    }

    pub fn make_next_token_short(&self) {
        self.state.short_token.store(true, Ordering::SeqCst);
    }

    pub fn pulls(&self) -> Vec<Value> {
        self.state.pulls.lock().unwrap().clone()
    }

    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Nothing was ever asked that GitHub would not have been asked.
    pub fn assert_content(&self) {
        let mut complaints = self.state.complaints.lock().unwrap().clone();
        complaints.extend(self.state.lfs.complaints.lock().unwrap().iter().cloned());
        assert!(complaints.is_empty(), "GitHub was asked what it should not be: {complaints:?}");
    }
}

impl State {
    fn answer(&self, asked: Asked) -> Told {
        if let Some(there) = self.moved(&asked) {
            // GitHub repeats neither method nor body in words: 307 for what changes something, 301 for the rest.
            let status = if asked.method == "GET" { 301 } else { 307 };
            let mut told = Told::json(status, json!({"message": "Moved Permanently", "url": there}));
            told.headers.push(("location".into(), there));
            return told;
        }
        match asked.path.strip_prefix("/api/v3") {
            Some(path) => {
                let hang = self.hang.lock().unwrap().take();
                while hang.as_ref().is_some_and(|file| file.exists()) {
                    self.is_hanging.store(true, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                self.requests.lock().unwrap().push(format!("{} {path}", asked.method));
                let mut faults = self.faults.lock().unwrap();
                if let Some(at) = faults.iter().position(|(method, _)| *method == asked.method) {
                    let (_, status) = faults.remove(at);
                    let mut told = Told::json(status, json!({"message": "a fault on purpose"}));
                    if status == 429 {
                        told.headers.push(("retry-after".into(), "1".into()));
                    }
                    return told;
                }
                drop(faults);
                self.api(path, &asked)
            }
            None => self.git(&asked),
        }
    }

    /// Where a repository with an old name is to be asked for.
    fn moved(&self, asked: &Asked) -> Option<String> {
        let renamed = self.renamed.lock().unwrap();
        let (old, new) = renamed.iter().find(|(old, _)| {
            let of_api = asked.path.strip_prefix("/api/v3/repos/").is_some_and(|rest| rest.starts_with(old.as_str()));
            of_api || asked.path.starts_with(&format!("/{old}.git"))
        })?;
        let query = if asked.query.is_empty() { String::new() } else { format!("?{}", asked.query) };
        Some(format!("{}{query}", asked.path.replacen(old.as_str(), new, 1)))
    }

    fn complain(&self, what: String) -> Told {
        self.complaints.lock().unwrap().push(what.clone());
        Told::json(400, json!({"message": what}))
    }

    fn api(&self, path: &str, asked: &Asked) -> Told {
        for (header, value) in [("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")] {
            if asked.header(header) != Some(value) {
                return self.complain(format!("{header}: {:?}", asked.header(header)));
            }
        }
        if !asked.header("user-agent").is_some_and(|agent| agent.starts_with("agenticore/")) {
            return self.complain("no user-agent".into());
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        if let ["app", "installations", installation, "access_tokens"] = parts[..] {
            return self.token_for_app(installation, asked);
        }
        if asked.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return Told::json(401, json!({"message": "Bad credentials"}));
        }
        match (asked.method.as_str(), &parts[..]) {
            ("GET", ["user"]) => Told::json(200, json!({"login": "me"})),
            ("GET", ["repos", owner, name]) => match self.repo(owner, name) {
                Some(_) => Told::json(200, json!({"full_name": format!("{owner}/{name}")})),
                None => Told::json(404, json!({"message": "Not Found"})),
            },
            ("POST", ["user", "repos"]) => self.create("me", asked),
            ("POST", ["orgs", owner, "repos"]) => self.create(owner, asked),
            ("GET", ["repos", owner, name, "pulls"]) => self.list_pulls(owner, name, asked),
            ("POST", ["repos", owner, name, "pulls"]) => self.open_pull(owner, name, asked),
            _ => self.complain(format!("{} {path}", asked.method)),
        }
    }

    fn repo(&self, owner: &str, name: &str) -> Option<PathBuf> {
        Some(self.root.join(owner).join(format!("{name}.git"))).filter(|path| path.exists())
    }

    fn create(&self, owner: &str, asked: &Asked) -> Told {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let (Some(name), Some(_), Some(true)) =
            (body["name"].as_str(), body["private"].as_bool(), body["auto_init"].as_bool())
        else {
            return self.complain(format!("create repository: {body}"));
        };
        Repo::with_commit(&self.root.join(owner).join(format!("{name}.git")));
        Told::json(201, json!({"private": body["private"]}))
    }

    fn list_pulls(&self, owner: &str, name: &str, asked: &Asked) -> Told {
        let query: Vec<(String, String)> = form_urlencoded::parse(asked.query.as_bytes()).into_owned().collect();
        let get = |key: &str| query.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        let head = get("head").and_then(|head| head.strip_prefix(&format!("{owner}:")));
        let (Some(head), Some("all")) = (head, get("state")) else {
            return self.complain(format!("list pulls: {}", asked.query));
        };
        let of = format!("{owner}/{name}");
        let found: Vec<Value> = self
            .pulls
            .lock()
            .unwrap()
            .iter()
            .filter(|pull| pull["of"] == of && pull["head"] == head)
            .cloned()
            .collect();
        Told::json(200, json!(found))
    }

    fn open_pull(&self, owner: &str, name: &str, asked: &Asked) -> Told {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let keys: Vec<&str> = body.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
        let texts: Vec<&str> = ["title", "head", "base", "body"].iter().filter_map(|key| body[*key].as_str()).collect();
        if keys.len() != 4 || texts.len() != 4 || texts.iter().any(|text| text.is_empty()) || texts[0].len() > 256 {
            return self.complain(format!("open pull: {body}"));
        }
        if asked.header("content-type") != Some("application/json") {
            return self.complain("open pull: no content-type".into());
        }
        let Some(repo) = self.repo(owner, name) else { return Told::json(404, json!({"message": "Not Found"})) };
        let invalid =
            |message: &str| Told::json(422, json!({"message": "Validation Failed", "errors": [{"message": message}]}));
        let commit = |branch: &str| git(&repo, &["rev-parse", "--verify", "-q", &format!("refs/heads/{branch}")]);
        let (Ok(head), Ok(base)) = (commit(texts[1]), commit(texts[2])) else {
            return invalid("head or base does not exist");
        };
        if head == base {
            return invalid("No commits between base and head");
        }
        let mut pulls = self.pulls.lock().unwrap();
        let of = format!("{owner}/{name}");
        if pulls.iter().any(|pull| pull["of"] == of && pull["head"] == texts[1]) {
            return invalid(&format!("A pull request already exists for {owner}:{}.", texts[1]));
        }
        let number = pulls.len() + 1;
        let pull = json!({"of": of, "number": number, "html_url": format!("https://github.test/{of}/pull/{number}"),
            "title": texts[0], "head": texts[1], "base": texts[2], "body": texts[3]});
        pulls.push(pull.clone());
        Told::json(201, pull)
    }

    fn token_for_app(&self, installation: &str, asked: &Asked) -> Told {
        let Some(public) = self.app_key.lock().unwrap().clone() else { return self.complain("no App".into()) };
        let jwt = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let parts: Vec<&str> = jwt.split('.').collect();
        let [head, claims, signature] = parts[..] else { return self.complain(format!("no JWT: {jwt}")) };
        let decode = |part: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap_or_default();
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, public);
        let signed = key.verify(format!("{head}.{claims}").as_bytes(), &decode(signature)).is_ok();
        let (head, claims) = (json(head), json(claims));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        let (issued, ends) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
        let in_time = issued <= now && ends > now && ends - now <= 600;
        if !signed || head["alg"] != "RS256" || !in_time || claims["iss"] != APP_ID || installation != INSTALLATION {
            return self.complain(format!("a JWT that GitHub would refuse: {head} {claims}, signed {signed}"));
        }
        let ends = match self.short_token.swap(false, Ordering::SeqCst) {
            true => format!("{}", jiff::Timestamp::from_second(now + 300).unwrap()),
            false => "2999-01-01T00:00:00Z".to_owned(),
        };
        Told::json(201, json!({"token": TOKEN, "expires_at": ends}))
    }

    fn git(&self, asked: &Asked) -> Told {
        let hold = self.hold.lock().unwrap().clone();
        while hold.as_ref().is_some_and(|file| file.exists()) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        if self.lfs.is_asked(asked) && !self.lfs.needs_login(asked) {
            return self.lfs.answer(asked);
        }
        let wanted = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
        if asked.header("authorization") != Some(&format!("Basic {wanted}")) {
            if asked.header("authorization").is_some() {
                self.complaints.lock().unwrap().push("git offered other credentials".into());
            }
            let headers = vec![("www-authenticate".into(), "Basic realm=\"GitHub\"".into())];
            return Told { status: 401, headers, body: b"no".to_vec() };
        }
        if self.lfs.is_asked(asked) {
            return self.lfs.answer(asked);
        }
        backend(&self.root, asked)
    }
}

/// The real git, as a CGI program.
fn backend(root: &Path, asked: &Asked) -> Told {
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("GIT_CONFIG_COUNT", "2")
        .env("GIT_CONFIG_KEY_0", "http.receivepack")
        .env("GIT_CONFIG_VALUE_0", "true")
        .env("GIT_CONFIG_KEY_1", "safe.directory")
        .env("GIT_CONFIG_VALUE_1", "*")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &asked.path)
        .env("QUERY_STRING", &asked.query)
        .env("REQUEST_METHOD", &asked.method)
        .env("CONTENT_TYPE", asked.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", asked.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", asked.header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", asked.header("git-protocol").unwrap_or_default())
        .env("REMOTE_USER", "x-access-token");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let body = asked.body.clone();
    let writer = std::thread::spawn(move || drop(input.write_all(&body)));
    let output = child.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    let at = output.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..at]).into_owned();
    let mut told = Told { status: 200, headers: Vec::new(), body: output.get(at + 4..).unwrap_or_default().to_vec() };
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        match name {
            "Status" => told.status = value.split(' ').next().unwrap().parse().unwrap(),
            _ => told.headers.push((name.into(), value.into())),
        }
    }
    told
}
