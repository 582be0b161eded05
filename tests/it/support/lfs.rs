//! A stand-in for a Git LFS server, as strict as the specification about what it is asked: the batch API, and a store
//! that takes only what it was asked for, with the token that it gave for that.

use super::http::{Asked, Told};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// What it does instead of taking an upload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A status, and nothing is stored.
    Status(u16),
    /// The batch is answered with this status.
    Batch(u16),
}

#[derive(Default)]
pub struct Lfs {
    /// By their SHA-256.
    pub contents: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Tokens that were given, and what for.
    tokens: Mutex<HashMap<String, String>>,
    /// `METHOD PATH`, each.
    pub requests: Mutex<Vec<String>>,
    pub fault: Mutex<Option<Fault>>,
    pub complaints: Mutex<Vec<String>>,
}

impl Lfs {
    pub fn is_asked(&self, asked: &Asked) -> bool {
        asked.path.contains("/info/lfs/") || asked.path.starts_with("/lfs-store/")
    }

    /// A request for the store holds its token; for the batch the caller has looked at the login.
    pub fn needs_login(&self, asked: &Asked) -> bool {
        !asked.path.starts_with("/lfs-store/")
    }

    pub fn add(&self, content: &[u8]) -> String {
        let oid = oid(content);
        self.contents.lock().unwrap().insert(oid.clone(), content.to_vec());
        oid
    }

    fn complain(&self, what: String) -> Told {
        self.complaints.lock().unwrap().push(what.clone());
        answer(422, json!({"message": what}))
    }

    pub fn answer(&self, asked: &Asked) -> Told {
        self.requests.lock().unwrap().push(format!("{} {}", asked.method, asked.path));
        match asked.path.strip_prefix("/lfs-store/") {
            Some(oid) => self.store(oid, asked),
            None if asked.path.ends_with(".git/info/lfs/objects/batch") && asked.method == "POST" => self.batch(asked),
            None => self.complain(format!("no such endpoint: {} {}", asked.method, asked.path)),
        }
    }

    fn batch(&self, asked: &Asked) -> Told {
        if let Some(Fault::Batch(status)) = *self.fault.lock().unwrap() {
            return answer(status, json!({"message": "a fault on purpose"}));
        }
        for name in ["accept", "content-type"] {
            if !asked.header(name).is_some_and(|value| value.starts_with(MEDIA_TYPE)) {
                return self.complain(format!("{name}: {:?}", asked.header(name)));
            }
        }
        let Ok(body) = serde_json::from_slice::<Value>(&asked.body) else { return self.complain("no JSON".into()) };
        let operation = body["operation"].as_str().unwrap_or_default().to_owned();
        if !["upload", "download"].contains(&operation.as_str()) || !body["objects"].is_array() {
            return self.complain(format!("no batch: {body}"));
        }
        let contents = self.contents.lock().unwrap();
        let objects: Vec<Value> = body["objects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|object| {
                let oid = object["oid"].as_str().unwrap();
                let is_there = contents.contains_key(oid);
                let token = format!("for-{operation}-{oid}");
                self.tokens.lock().unwrap().insert(token.clone(), format!("{operation} {oid}"));
                let href = format!("http://{}/lfs-store/{oid}", asked.header("host").unwrap());
                let action = json!({"href": href, "header": {"Authorization": format!("RemoteAuth {token}")}});
                match (operation.as_str(), is_there) {
                    ("download", false) => {
                        json!({"oid": oid, "size": object["size"], "error": {"code": 404, "message": "no such object"}})
                    }
                    ("upload", true) => json!({"oid": oid, "size": object["size"]}),
                    _ => json!({"oid": oid, "size": object["size"], "actions": {&operation: action}}),
                }
            })
            .collect();
        answer(200, json!({"transfer": "basic", "objects": objects, "hash_algo": "sha256"}))
    }

    fn store(&self, oid: &str, asked: &Asked) -> Told {
        let operation = if asked.method == "PUT" { "upload" } else { "download" };
        let token = asked.header("authorization").and_then(|value| value.strip_prefix("RemoteAuth "));
        let given = token.and_then(|token| self.tokens.lock().unwrap().get(token).cloned());
        if given != Some(format!("{operation} {oid}")) {
            return self.complain(format!("{} of {oid} without its token", asked.method));
        }
        let plain = |status, body: &[u8]| Told { status, headers: Vec::new(), body: body.to_vec() };
        if asked.method == "GET" {
            return match self.contents.lock().unwrap().get(oid) {
                Some(content) => plain(200, content),
                None => plain(404, b""),
            };
        }
        if let Some(Fault::Status(status)) = *self.fault.lock().unwrap() {
            return plain(status, b"");
        }
        if self::oid(&asked.body) != oid {
            return self.complain(format!("another content than {oid}"));
        }
        self.contents.lock().unwrap().insert(oid.to_owned(), asked.body.clone());
        plain(200, b"")
    }
}

fn answer(status: u16, body: Value) -> Told {
    Told { status, headers: vec![("content-type".into(), MEDIA_TYPE.into())], body: body.to_string().into() }
}

/// The name of a content.
pub fn oid(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file that git has in the place of this content.
pub fn pointer(content: &[u8]) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n", oid(content), content.len())
}
