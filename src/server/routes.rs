//! The REST routes: which request does what, and how it is answered.

use super::head::Head;
use super::http::{Answer, Handler, Request};
use super::keys::Keys;
use crate::api::{self, JobRequest, ListRequest};
use crate::fleet::drain::Drainer;
use crate::fleet::pool::Canceller;
use crate::fleet::submit;
use crate::job::{JobId, Mode, Record, Status};
use crate::log;
use crate::pipeline::Runner;
use crate::store::{self, Cancelled, Key, Seen};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tiny_http::Method;

/// How often an answer that waits for a job looks whether anybody still waits for it.
const WAIT_TICK: Duration = Duration::from_millis(250);

/// The longest Idempotency-Key, in characters.
const KEY_LIMIT: usize = 255;

pub struct Routes {
    runner: Arc<Runner>,
    canceller: Canceller,
    drainer: Drainer,
    keys: Keys,
}

type Reply = Result<Answer, Answer>;

impl Routes {
    pub fn new(runner: Arc<Runner>, canceller: Canceller, drainer: Drainer) -> Self {
        let keys = Keys::new(runner.config.api_keys.clone());
        Self { runner, canceller, drainer, keys }
    }

    fn route(&self, request: &Request) -> Reply {
        let path = request.head.path.trim_end_matches('/');
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts[..] {
            ["health"] => only(request, &[Method::Get], "GET", || Ok(self.health())),
            ["ready"] => only(request, &[Method::Get], "GET", || Ok(self.ready())),
            ["admin", "drain"] => self.drain(request),
            ["jobs"] if request.head.method == Method::Post => self.submit(request),
            ["jobs"] => only(request, &[Method::Get], "GET, POST", || self.list(request)),
            ["jobs", id] if request.head.method == Method::Delete => self.cancel(id),
            ["jobs", id] => only(request, &[Method::Get], "GET, DELETE", || self.show(id)),
            ["profiles"] => only(request, &[Method::Get], "GET", || Ok(self.profiles())),
            _ => Err(Answer::error(
                404,
                "there is nothing here: known are /health, /ready, /jobs, /jobs/{id}, /profiles and /admin/drain",
            )),
        }
    }

    fn health(&self) -> Answer {
        let mut body = json!({ "status": "ok", "service": "agenticore" });
        if let Some(why) = self.runner.store.waits_for().or_else(|| self.waits_for_operator()) {
            body["waiting_for"] = json!(why);
        }
        if self.drainer.progress().draining {
            body["draining"] = json!(true);
        }
        Answer::json(200, &body)
    }

    /// Whether requests should be sent here. A draining server takes them, but others should come first.
    fn ready(&self) -> Answer {
        let waits_for = self.runner.store.waits_for();
        let draining = self.drainer.progress().draining;
        // With a second copy jobs are taken in, read and cancelled without Redis too.
        let can_do_without = self.runner.config.has_second_copy() && self.runner.store.was_reached();
        let is_of_no_use = waits_for.is_some() && !can_do_without;
        let ready = !draining && !is_of_no_use;
        let mut body = json!({ "ready": ready, "draining": draining });
        if let Some(why) = waits_for.or_else(|| self.waits_for_operator()) {
            body["waiting_for"] = json!(why);
        }
        Answer::json(if ready { 200 } else { 503 }, &body)
    }

    /// Jobs are taken in all the same, and wait. Any profile but the self-test's stands for all.
    fn waits_for_operator(&self) -> Option<String> {
        self.runner.why_waiting(&self.runner.config.default_profile)
    }

    /// The record, and if it waits for something that an operator has to do, for what.
    fn shown(&self, record: &Record) -> Value {
        let mut shown = api::shown(record);
        if record.status() == Status::Queued
            && let Some(why) = self.runner.why_waiting(&record.profile)
        {
            shown["waiting_for"] = json!(why);
        }
        shown
    }

    fn drain(&self, request: &Request) -> Reply {
        match request.head.method {
            Method::Post => {
                let wanted = pairs(&request.head).find(|(name, _)| name == "timeout");
                let limit = wanted.map_or(Ok(api::DRAIN_DEFAULT), |(_, text)| api::drain_timeout(&text));
                self.drainer.begin(limit.map_err(|why| Answer::error(400, &why))?);
            }
            Method::Delete => self.drainer.take_back(),
            _ => return only(request, &[Method::Get], "GET, POST, DELETE", || Ok(self.progress())),
        }
        Ok(self.progress())
    }

    fn progress(&self) -> Answer {
        let progress = self.drainer.progress();
        Answer::json(200, &api::drain(progress.draining, &progress.running, &progress.handed_back, progress.left))
    }

    fn admit(&self, head: &Head) -> Result<(), Answer> {
        let offered = offered_keys(head);
        let offered: Vec<&str> = offered.iter().map(|key| key.as_ref()).collect();
        if self.keys.admit(&offered) {
            return Ok(());
        }
        Err(Answer::json(401, &json!({ "error": "Invalid or missing API key" })))
    }

    fn submit(&self, request: &Request) -> Reply {
        let bad = |why: String| Answer::error(400, &why);
        let wanted = JobRequest::parse(&request.body).map_err(bad)?;
        let key = self.idempotency_key(&request.head, &wanted)?;
        let spec = submit::judge(wanted, &self.runner).map_err(bad)?;
        let waits = spec.mode == Mode::Sync;
        let mut record = self.runner.store.submit(spec, key.as_ref()).map_err(unavailable)?;
        while waits && !record.status().has_ended() && !request.is_moot() {
            if let Some(ended) = self.runner.store.wait_for_end(&record.id, WAIT_TICK).map_err(unavailable)? {
                record = ended;
            }
        }
        Ok(Answer::json(200, &api::job(self.shown(&record))))
    }

    /// One caller's key is nobody else's, and what is kept of it tells neither.
    fn idempotency_key(&self, head: &Head, wanted: &JobRequest) -> Result<Option<Key>, Answer> {
        let Some(key) = head.header("idempotency-key") else { return Ok(None) };
        if key.is_empty() || key.len() > KEY_LIMIT || key.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
            let why = format!("Idempotency-Key must be 1 to {KEY_LIMIT} printable ASCII characters");
            return Err(Answer::error(400, &why));
        }
        let caller = if self.keys.are_wanted() { offered_keys(head) } else { Vec::new() };
        let name = hash(&[caller.first().map_or("", |key| key.as_ref()), key].join("\n"));
        // Whether the answer waits is not part of what is to be done.
        let request = JobRequest { wait: false, ..wanted.clone() };
        Ok(Some(Key { name, request: hash(&serde_json::to_string(&request).unwrap_or_default()) }))
    }

    fn list(&self, request: &Request) -> Reply {
        let pairs: Vec<_> = pairs(&request.head).collect();
        let wanted = ListRequest::parse(pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
        let wanted = wanted.map_err(|why| Answer::error(400, &why))?;
        let seen = self.runner.store.list(wanted.limit, wanted.status).map_err(unavailable)?;
        Ok(Answer::json(
            200,
            &api::stale(api::jobs(seen.it.iter().map(|record| self.shown(record)).collect()), seen.stale),
        ))
    }

    fn show(&self, id: &str) -> Reply {
        self.find(id).map(|seen| Answer::json(200, &api::stale(api::job(self.shown(&seen.it)), seen.stale)))
    }

    fn cancel(&self, id: &str) -> Reply {
        let found = self.find(id)?.it;
        match self.canceller.cancel(&found.id).map_err(unavailable)? {
            Cancelled::Done { record, .. } => Ok(Answer::json(200, &api::job(self.shown(&record)))),
            Cancelled::Unknown => Err(unknown(id)),
            // Asked twice, answered twice alike.
            Cancelled::Ended(record) if record.status() == Status::Cancelled => {
                Ok(Answer::json(200, &api::job(self.shown(&record))))
            }
            Cancelled::Ended(record) => {
                let why = format!("job {} has ended already: it {}", record.id, record.status().as_str());
                let mut body = api::error(&why);
                body["job"] = self.shown(&record);
                Err(Answer::json(409, &body))
            }
        }
    }

    /// The job of this id, or the only one whose id begins so.
    fn find(&self, id: &str) -> Result<Seen<Record>, Answer> {
        let store = &self.runner.store;
        let whole = match JobId::parse(id) {
            Some(id) => id,
            None if is_prefix(id) => {
                let mut found = store.matching(id).map_err(unavailable)?;
                match found.len() {
                    0 => return Err(unknown(id)),
                    1 => found.remove(0),
                    _ => {
                        return Err(Answer::error(
                            409,
                            &format!("`{id}` begins the id of several jobs: give more of it"),
                        ));
                    }
                }
            }
            None => {
                let why = "a job's id is a UUID in lower case, or at least its first 4 characters";
                return Err(Answer::error(404, &format!("no such job: {why}")));
            }
        };
        let Seen { it, stale } = store.get(&whole).map_err(unavailable)?;
        it.map(|it| Seen { it, stale }).ok_or_else(|| unknown(id))
    }

    fn profiles(&self) -> Answer {
        let (profiles, broken) = self.runner.profiles.all();
        let errors: Vec<String> = broken.iter().map(ToString::to_string).collect();
        let shown: Vec<_> = profiles.iter().map(|profile| profile.to_json()).collect();
        let mut body = json!({ "success": true, "count": shown.len(), "profiles": shown });
        if !errors.is_empty() {
            body["errors"] = json!(errors);
        }
        Answer::json(200, &body)
    }
}

impl Handler for Routes {
    fn screen(&self, head: &Head) -> Result<(), Answer> {
        let is_public = ["/health", "/ready"].contains(&head.path.trim_end_matches('/'));
        if is_public { Ok(()) } else { self.admit(head) }
    }

    fn answer(&self, request: &Request) -> Answer {
        self.route(request).unwrap_or_else(|refusal| refusal)
    }
}

/// The keys that a request carries, in the order in which they count.
fn offered_keys(head: &Head) -> Vec<Cow<'_, str>> {
    let bearer = head.header("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    let in_query = pairs(head).filter(|(name, _)| name == "api_key").map(|(_, value)| value);
    head.header("x-api-key").into_iter().chain(bearer).map(Cow::Borrowed).chain(in_query).collect()
}

fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn only(request: &Request, methods: &[Method], allow: &'static str, answer: impl FnOnce() -> Reply) -> Reply {
    let asked = &request.head.method;
    if methods.contains(asked) || (*asked == Method::Head && methods.contains(&Method::Get)) {
        return answer();
    }
    let refusal = Answer::error(405, &format!("{asked} does nothing here: allowed are {allow}"));
    Err(Answer { allow: Some(allow), ..refusal })
}

fn pairs(head: &Head) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(head.query.as_bytes())
}

/// Enough of an id to mean one job, and nothing but characters of an id.
fn is_prefix(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-';
    (4..36).contains(&text.len()) && text.bytes().all(fits)
}

fn unknown(id: &str) -> Answer {
    Answer::error(404, &format!("no such job: {}", crate::job::cut(id.to_owned(), 64)))
}

fn unavailable(error: store::Error) -> Answer {
    match &error {
        store::Error::OtherRequest => return Answer::error(422, &error.to_string()),
        store::Error::Unconfigured(why) => {
            return Answer::error(503, &format!("this server takes no jobs yet, because it needs {why}"));
        }
        store::Error::InFlight => return Answer::error(409, &error.to_string()),
        _ => {}
    }
    log::warn(&error.to_string());
    Answer::error(503, &format!("the job store cannot be used just now: {error}"))
}
