//! REST: each request is translated for the service, and what that says is translated back. Decides nothing itself.

mod openapi;
mod page;
mod plans;
pub mod routes;
pub mod status;
mod stream;
mod wait;
mod worktrees;

use super::guard::{offered_keys, pairs};
use super::http::{Answer, Head, Reply, Request};
use crate::api::{
    self, ChangesRequest, EventsRequest, Job, JobAnswer, JobRequest, JobSummary, JobsAnswer, ListRequest,
    ResumeRequest, RetryRequest, Shape, View,
};
use crate::job::Time;
use crate::log;
use crate::metrics;
use crate::server::keys::Keys;
use crate::service::{Caller, ChangePageWatch, Refusal, Seen, SentKey, Service};
use page::WaitForPage;
use status::{json, refused};
use std::borrow::Cow;
use std::sync::Arc;
use stream::{ChangeStream, EventStream};
use tiny_http::Method;
use wait::WaitForEnd;

pub struct Rest {
    service: Arc<Service>,
    /// They tell one caller from another.
    keys: Arc<Keys>,
}

/// A request, and what stands in its path for `{id}`.
pub struct Asked<'a> {
    pub head: &'a Head,
    pub body: &'a [u8],
    pub id: &'a str,
    pub by: &'a Caller,
}

impl Asked<'_> {
    /// What is asked for behind the `?`, but for the key.
    fn parameters(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        pairs(self.head).filter(|(name, _)| name != "api_key")
    }

    /// Of events: a page in place of a stream.
    fn wants_page(&self) -> bool {
        self.head.header("accept").is_some_and(|types| types.contains("application/json"))
    }

    /// A browser that connects again sends the last cursor that it saw.
    fn last_event<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, Refusal> {
        let last = self.head.header("last-event-id").filter(|last| !last.is_empty());
        last.map(parse).transpose().map_err(|why| Refusal::invalid("Last-Event-ID", why))
    }

    fn parse<T>(&self, parse: impl FnOnce(&[(&str, &str)]) -> Result<T, String>) -> Result<T, Refusal> {
        let parameters: Vec<_> = self.parameters().collect();
        let pairs: Vec<_> = parameters.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        parse(&pairs).map_err(|why| Refusal::invalid("query", why))
    }
}

type Answered = Result<Reply, Refusal>;

impl Rest {
    pub fn new(service: Arc<Service>, keys: Arc<Keys>) -> Self {
        Self { service, keys }
    }

    fn health(&self, _: &Asked) -> Answered {
        json(200, &self.service.status())
    }

    fn status(&self, asked: &Asked) -> Answered {
        json(200, &self.service.server_status(asked.by))
    }

    fn openapi(&self, _: &Asked) -> Answered {
        json(200, &openapi::document())
    }

    fn metrics(&self, _: &Asked) -> Answered {
        let text = metrics::text(&self.service.numbers()).map_err(Refusal::CannotRun)?;
        Ok(Reply::Whole(Answer::text("text/plain; version=0.0.4; charset=utf-8", text)))
    }

    fn ready(&self, _: &Asked) -> Answered {
        let readiness = self.service.readiness();
        json(if readiness.ready { 200 } else { 503 }, &readiness)
    }

    fn submit(&self, asked: &Asked) -> Answered {
        let request = JobRequest::parse(asked.body).map_err(|why| Refusal::invalid("body", why))?;
        let waits = request.wait;
        let job = self.with_key(asked, |key| self.service.submit(request, key, asked.by))?;
        self.accepted(job, waits, Shape::Job)
    }

    fn retry(&self, asked: &Asked) -> Answered {
        let request = RetryRequest::parse(asked.body).map_err(|why| Refusal::invalid("body", why))?;
        let job = self.with_key(asked, |key| self.service.retry(asked.id, request, key, asked.by))?;
        self.accepted(job, request.wait, Shape::Job)
    }

    fn resume(&self, asked: &Asked) -> Answered {
        let request = ResumeRequest::parse(asked.body).map_err(|why| Refusal::invalid("body", why))?;
        let waits = request.wait;
        let job = self.with_key(asked, |key| self.service.resume(asked.id, request, key, asked.by))?;
        self.accepted(job, waits, Shape::Job)
    }

    /// Submits with the Idempotency-Key that came with the request, if one did.
    fn with_key<T>(&self, asked: &Asked, submit: impl FnOnce(Option<SentKey>) -> T) -> T {
        let offered = if self.keys.are_wanted() { offered_keys(asked.head) } else { Vec::new() };
        let caller = offered.first().map_or("", |key| key.as_ref());
        submit(asked.head.header("idempotency-key").map(|key| SentKey { caller, key }))
    }

    fn accepted(&self, job: Job, waits: bool, shape: Shape) -> Answered {
        if waits && !job.status.has_ended() {
            return Ok(Reply::Flow(Box::new(WaitForEnd::new(&self.service, job, shape))));
        }
        json(200, &shape.answer(job))
    }

    fn list(&self, asked: &Asked) -> Answered {
        let request = asked.parse(|pairs| ListRequest::parse(pairs, Time::now()))?;
        let (Seen { it: jobs, stale }, next) = self.service.list(&request, asked.by)?;
        match request.view {
            View::Full => json(200, &JobsAnswer::new(jobs, next, stale)),
            View::Summary => json(200, &JobsAnswer::new(jobs.iter().map(JobSummary::from).collect(), next, stale)),
        }
    }

    fn show(&self, asked: &Asked) -> Answered {
        let Seen { it, stale } = self.service.find(asked.id)?;
        json(200, &JobAnswer::new(it, stale))
    }

    fn diff(&self, asked: &Asked) -> Answered {
        json(200, &self.service.diff(asked.id)?)
    }

    fn events(&self, asked: &Asked) -> Answered {
        let mut request = asked.parse(EventsRequest::parse)?;
        if asked.wants_page() {
            if request.wait.is_zero() {
                return json(200, &self.service.events(asked.id, &request)?);
            }
            return Ok(Reply::Flow(Box::new(WaitForPage(self.service.watch_page(asked.id, request)?))));
        }
        request.after = asked.last_event(api::cursor)?.unwrap_or(request.after);
        Ok(Reply::Flow(Box::new(EventStream(self.service.watch_events(asked.id, request.after)?))))
    }

    fn changes(&self, asked: &Asked) -> Answered {
        let mut request = asked.parse(ChangesRequest::parse)?;
        request.after = asked.last_event(api::moment)?.unwrap_or(request.after);
        // Before an answer begins: what cannot be read is refused.
        let page = self.service.changes(&request)?;
        if !asked.wants_page() {
            return Ok(Reply::Flow(Box::new(ChangeStream(self.service.watch_changes(request.after)))));
        }
        if request.wait.is_zero() || !page.events.is_empty() {
            return json(200, &page);
        }
        Ok(Reply::Flow(Box::new(WaitForPage(ChangePageWatch::new(&self.service, &request)))))
    }

    fn cancel(&self, asked: &Asked) -> Answered {
        json(200, &JobAnswer::new(self.service.cancel(asked.id, asked.by)?, false))
    }

    fn webhooks(&self, _: &Asked) -> Answered {
        json(200, &self.service.webhooks())
    }

    fn retry_webhooks(&self, _: &Asked) -> Answered {
        json(200, &self.service.retry_webhooks()?)
    }

    fn profiles(&self, _: &Asked) -> Answered {
        json(200, &self.service.profiles())
    }

    fn begin_drain(&self, asked: &Asked) -> Answered {
        let wanted = asked.parameters().find(|(name, _)| name == "timeout");
        let limit = wanted.map_or(Ok(api::DRAIN_DEFAULT), |(_, text)| api::drain_timeout(&text));
        json(200, &self.service.begin_drain(limit.map_err(|why| Refusal::invalid("timeout", why))?))
    }

    fn sync(&self, asked: &Asked) -> Answered {
        let target = asked.parameters().find(|(name, _)| name == "target");
        json(200, &self.service.sync(target.as_ref().map_or("all", |(_, target)| target))?)
    }

    fn take_back_drain(&self, _: &Asked) -> Answered {
        json(200, &self.service.take_back_drain()?)
    }

    fn drain(&self, _: &Asked) -> Answered {
        json(200, &self.service.drain())
    }
}

impl Rest {
    pub fn answer(&self, request: &Request) -> Reply {
        match routes::find(&request.head) {
            Ok((route, id)) => {
                let asked = Asked { head: &request.head, body: &request.body, id, by: &request.caller };
                let checked = route.check_parameters(&asked).map_err(|why| Refusal::invalid("query", why));
                let answered = checked.and_then(|()| (route.answer)(self, &asked));
                let reply = answered.unwrap_or_else(|refusal| refused(&refusal).into());
                if route.method != Method::Get {
                    let outcome = match &reply {
                        Reply::Whole(answer) => answer.status.to_string(),
                        Reply::Flow(_) => "200, which flows".to_owned(),
                    };
                    // Without the query, which may hold a key.
                    let what = format!("{} {}", route.method, request.head.path);
                    log::audit(request.caller.name.as_deref(), request.caller.request_id.as_deref(), &what, &outcome);
                }
                reply
            }
            Err(answer) => answer.into(),
        }
    }
}
