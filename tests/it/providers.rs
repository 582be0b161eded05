//! Claude in somebody's cloud, or behind a gateway, with the real CLI: each is asked as it wants to be asked, with the
//! variables that docs/models.md names, and none of their secrets is in a text.
//!
//! The stand-ins check what is asked of them: Amazon's signatures, exchanged tokens, keys in the right header.

use crate::claude::cli;
use crate::support::Lab;
use crate::support::http::{Asked, StandIn, Told};
use crate::support::messages::{events, next_block, sse, whole};
use base64::Engine;
use ring::{digest, hmac};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const SECRET: &str = "wJalrXUtnFEMI-made-up-for-tests";
const REGION: &str = "eu-west-1";

/// A cloud whose `answer` says what to tell, or why not.
struct Cloud {
    server: StandIn,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Cloud {
    fn start(answer: impl Fn(&Asked) -> Result<Told, String> + Send + Sync + 'static) -> Self {
        let refused: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = refused.clone();
        let server = StandIn::start(move |asked| {
            answer(&asked).unwrap_or_else(|why| {
                kept.lock().unwrap().push(format!("{} {}: {why}", asked.method, asked.path));
                Told::json(403, json!({"message": why}))
            })
        });
        Self { server, refused }
    }

    /// A whole job with these settings; nothing that was asked was refused, and no secret is in a text.
    fn does_a_job(&self, variables: &[(&str, &str)], secrets: &[&str]) {
        let Some(cli) = cli() else { return };
        let mut lab = Lab::new().with("AGENTICORE_CLAUDE_BINARY", cli.display().to_string());
        lab = lab.with("AGENTICORE_CLAUDE_MAX_RETRIES", "0");
        for (name, value) in variables {
            lab = lab.with(name, value.replace("{url}", &self.server.url()));
        }
        let repo = lab.repo();
        let server = lab.serve();
        let task = "[[bash env | cut -d= -f1 > names.txt]] [[say Done.]]";
        let job = server.run(json!({"task": task, "repo_url": repo.url()}));
        assert_eq!(
            (&job["status"], &job["output"]),
            (&json!("succeeded"), &json!("Done.")),
            "{job:#} {:?}",
            self.refused
        );
        assert_eq!(*self.refused.lock().unwrap(), Vec::<String>::new());
        let (_, status) = server.get("/status");
        let id = job["id"].as_str().unwrap();
        let told = format!("{job} {status} {} {}", server.get(&format!("/jobs/{id}/events?limit=500")).1, server.log());
        for secret in secrets {
            assert!(!told.contains(secret), "{secret} is in {told}");
        }
        server.stop();
        lab.assert_tidy();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// As Amazon does: the signature is made again from what was sent, and has to be the same.
fn check_signature(asked: &Asked, key_id: &str, token: Option<&str>) -> Result<(), String> {
    let said = asked.header("authorization").ok_or("no authorization")?;
    let rest = said.strip_prefix("AWS4-HMAC-SHA256 ").ok_or(format!("not signed: {said}"))?;
    let part = |name: &str| rest.split(", ").find_map(|part| part.strip_prefix(&format!("{name}=")).map(str::to_owned));
    let (scope, signed) = (part("Credential").ok_or("no credential")?, part("SignedHeaders").ok_or("no headers")?);
    let date = asked.header("x-amz-date").ok_or("no date")?;
    let scope_wanted = format!("{key_id}/{}/{REGION}/bedrock/aws4_request", &date[..8]);
    if scope != scope_wanted {
        return Err(format!("the scope is {scope}, not {scope_wanted}"));
    }
    if asked.header("x-amz-security-token") != token {
        return Err("another session token".into());
    }
    let body_hash = sha256(&asked.body);
    let headers: String =
        signed.split(';').map(|name| format!("{name}:{}\n", asked.header(name).unwrap_or("").trim())).collect();
    let path: String = asked
        .path
        .bytes()
        .map(|b| match b {
            b'/' | b'-' | b'_' | b'.' | b'~' => (b as char).to_string(),
            b if b.is_ascii_alphanumeric() => (b as char).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect();
    let request = format!("{}\n{path}\n{}\n{headers}\n{signed}\n{body_hash}", asked.method, asked.query);
    let scope = scope.split_once('/').unwrap().1;
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(request.as_bytes()));
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for part in scope.split('/') {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    let made = hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes()).as_ref());
    if part("Signature").as_deref() != Some(&made) {
        return Err(format!("another signature, of {request}"));
    }
    Ok(())
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// One frame of Amazon's event stream.
fn frame(event: &Value) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [(":event-type", "chunk"), (":content-type", "application/json"), (":message-type", "event")] {
        headers.push(name.len() as u8);
        headers.extend(name.bytes());
        headers.push(7);
        headers.extend((value.len() as u16).to_be_bytes());
        headers.extend(value.bytes());
    }
    let payload = json!({"bytes": base64::engine::general_purpose::STANDARD.encode(event.to_string())}).to_string();
    let mut frame = ((16 + headers.len() + payload.len()) as u32).to_be_bytes().to_vec();
    frame.extend((headers.len() as u32).to_be_bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(headers);
    frame.extend(payload.bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

fn bedrock(asked: &Asked) -> Result<Told, String> {
    if asked.path == "/inference-profiles" {
        return Ok(Told::json(200, json!({"inferenceProfileSummaries": []})));
    }
    let (model, verb) =
        asked.path.strip_prefix("/model/").and_then(|rest| rest.split_once('/')).ok_or("no such path")?;
    let mut body: Value = serde_json::from_slice(&asked.body).map_err(|error| error.to_string())?;
    if body["anthropic_version"] != "bedrock-2023-05-31" {
        return Err(format!("anthropic_version is {}", body["anthropic_version"]));
    }
    body["model"] = json!(model);
    let block = next_block(&body);
    match verb {
        "invoke" => Ok(Told::json(200, whole(&body, &block))),
        "invoke-with-response-stream" => Ok(Told {
            status: 200,
            headers: vec![("content-type".into(), "application/vnd.amazon.eventstream".into())],
            body: events(&body, &block).iter().flat_map(frame).collect(),
        }),
        _ => Err("no such operation".into()),
    }
}

#[test]
fn bedrock_with_keys() {
    let cloud = Cloud::start(|asked| check_signature(asked, "AKIAMADEUP", None).and_then(|()| bedrock(asked)));
    let variables = [
        ("CLAUDE_CODE_USE_BEDROCK", "1"),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "AKIAMADEUP"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("ANTHROPIC_BEDROCK_BASE_URL", "{url}"),
    ];
    cloud.does_a_job(&variables, &[SECRET, "AKIAMADEUP"]);
}

/// As in EKS with a role for the service account.
#[test]
fn bedrock_with_a_web_identity_file() {
    let cloud = Cloud::start(|asked| {
        let form: std::collections::BTreeMap<_, _> = form_urlencoded::parse(&asked.body).into_owned().collect();
        if form.get("Action").is_some_and(|action| action == "AssumeRoleWithWebIdentity") {
            let is = |name: &str, value: &str| form.get(name).is_some_and(|found| found == value);
            if !is("RoleArn", "arn:aws:iam::123456789012:role/agents") || !is("WebIdentityToken", "the-pods-token") {
                return Err(format!("{form:?}"));
            }
            let answer = format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAMADEUP</AccessKeyId>\
                 <SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>of-the-session</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
                 </AssumeRoleWithWebIdentityResponse>"
            );
            return Ok(Told {
                status: 200,
                headers: vec![("content-type".into(), "text/xml".into())],
                body: answer.into(),
            });
        }
        check_signature(asked, "ASIAMADEUP", Some("of-the-session")).and_then(|()| bedrock(asked))
    });
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "the-pods-token").unwrap();
    let variables = [
        ("CLAUDE_CODE_USE_BEDROCK", "1"),
        ("AWS_REGION", REGION),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/agents"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ENDPOINT_URL_STS", "{url}"),
        ("ANTHROPIC_BEDROCK_BASE_URL", "{url}"),
    ];
    cloud.does_a_job(&variables, &[SECRET]);
}

/// As in GKE: the metadata server gives a token to the pod's service account.
#[test]
fn vertex_with_the_metadata_servers_token() {
    let cloud = Cloud::start(|asked| {
        if asked.path.starts_with("/computeMetadata/") || asked.path == "/" {
            if asked.header("metadata-flavor") != Some("Google") {
                return Err("no Metadata-Flavor: Google".into());
            }
            let mut told = match asked.path.ends_with("/token") {
                true => {
                    Told::json(200, json!({"access_token": "ya29.made-up", "expires_in": 3600, "token_type": "Bearer"}))
                }
                false => Told { status: 200, headers: vec![], body: b"made-up-project".to_vec() },
            };
            told.headers.push(("metadata-flavor".into(), "Google".into()));
            return Ok(told);
        }
        if asked.header("authorization") != Some("Bearer ya29.made-up") {
            return Err(format!("authorization is {:?}", asked.header("authorization")));
        }
        let rest = asked.path.strip_prefix("/v1/projects/agents/locations/europe-west1/publishers/anthropic/models/");
        let (model, verb) = rest.and_then(|rest| rest.rsplit_once(':')).ok_or("no such path")?;
        let mut body: Value = serde_json::from_slice(&asked.body).map_err(|error| error.to_string())?;
        if body["anthropic_version"] != "vertex-2023-10-16" {
            return Err(format!("anthropic_version is {}", body["anthropic_version"]));
        }
        body["model"] = json!(model);
        let block = next_block(&body);
        match verb {
            "rawPredict" => Ok(Told::json(200, whole(&body, &block))),
            "streamRawPredict" => Ok(sse(&events(&body, &block))),
            _ => Err("no such operation".into()),
        }
    });
    let metadata = cloud.server.address.to_string();
    let variables = [
        ("CLAUDE_CODE_USE_VERTEX", "1"),
        ("CLOUD_ML_REGION", "europe-west1"),
        ("ANTHROPIC_VERTEX_PROJECT_ID", "agents"),
        ("GCE_METADATA_HOST", metadata.as_str()),
        ("ANTHROPIC_VERTEX_BASE_URL", "{url}/v1"),
    ];
    cloud.does_a_job(&variables, &["ya29.made-up"]);
}

fn messages(asked: &Asked, path: &str) -> Result<Told, String> {
    if asked.path != path {
        return Err(format!("expected {path}"));
    }
    let body: Value = serde_json::from_slice(&asked.body).map_err(|error| error.to_string())?;
    let block = next_block(&body);
    Ok(if body["stream"] == true { sse(&events(&body, &block)) } else { Told::json(200, whole(&body, &block)) })
}

#[test]
fn foundry_with_a_key() {
    let cloud = Cloud::start(|asked| match asked.header("x-api-key").or(asked.header("api-key")) {
        Some("foundry-made-up") => messages(asked, "/anthropic/v1/messages"),
        other => Err(format!("the key is {other:?}")),
    });
    let variables = [
        ("CLAUDE_CODE_USE_FOUNDRY", "1"),
        ("ANTHROPIC_FOUNDRY_BASE_URL", "{url}/anthropic"),
        ("ANTHROPIC_FOUNDRY_API_KEY", "foundry-made-up"),
    ];
    cloud.does_a_job(&variables, &["foundry-made-up"]);
}

#[test]
fn a_gateway_with_headers_and_a_name_for_the_model() {
    let cloud = Cloud::start(|asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        match (asked.header("authorization"), asked.header("x-team-key"), &body["model"]) {
            (Some("Bearer gateway-made-up"), Some("team-made-up"), model) if model == "house/opus" => {
                messages(asked, "/v1/messages")
            }
            other => Err(format!("asked with {other:?}")),
        }
    });
    let variables = [
        ("ANTHROPIC_BASE_URL", "{url}"),
        ("ANTHROPIC_AUTH_TOKEN", "gateway-made-up"),
        // As the Python program's users have it.
        ("ANTHROPIC_CUSTOM_HEADERS", r#"{"X-Team-Key": "team-made-up"}"#),
        // Profiles name `sonnet`, or `opus`: what that is here.
        ("ANTHROPIC_DEFAULT_SONNET_MODEL", "house/opus"),
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "house/opus"),
    ];
    cloud.does_a_job(&variables, &["gateway-made-up", "team-made-up"]);
}
