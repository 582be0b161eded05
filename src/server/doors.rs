//! Which door a request goes to, after the guard has let it in.

use super::guard::{Guard, Refused, is_key_in_address, offered_keys};
use super::http::{Answer, Handler, Head, Reply, Request};
use super::keyed_flow::KeyedFlow;
use super::keys::{Keys, Unfit};
use super::mcp::{self, Mcp, sse};
use super::page;
use super::rest::routes::Access;
use super::rest::{Rest, routes, status};
use crate::api::Problem;
use crate::job::Time;
use crate::log;
use crate::metrics;
use crate::service::{Caller, Scope};
use std::sync::Arc;
use std::time::Instant;
use tiny_http::Method;

pub struct Doors {
    pub guard: Guard,
    pub keys: Arc<Keys>,
    pub rest: Rest,
    pub mcp: Arc<Mcp>,
}

impl Handler for Doors {
    fn screen(&self, head: &Head) -> Result<Caller, Answer> {
        if self.guard.is_preflight(head) {
            return Err(Answer::empty(204));
        }
        self.guard.check_sender(head).map_err(|refused| match refused {
            Refused::Host(host) => status::problem(
                421,
                &format!("this server does not answer to the name `{host}`: add it to AGENTICORE_ALLOWED_HOSTS"),
            ),
            Refused::Page(origin) => status::told(&Problem::of(
                "page-refused",
                format!("pages of `{origin}` may not use this server: add their origin to AGENTICORE_ALLOWED_ORIGINS"),
            )),
            Refused::Type(kind) => {
                status::problem(415, &format!("the body is `{kind}`, but must be JSON: send it as application/json"))
            }
        })?;
        let access = self.access(head);
        if access == Access::Public || sse::stands_for_a_key(head) {
            return Ok(Caller::anybody());
        }
        let offered = offered_keys(head);
        let offered: Vec<&str> = offered.iter().map(|key| key.as_ref()).collect();
        let caller = self.keys.find(&offered, Time::now()).map_err(|unfit| match unfit {
            Unfit::Unknown => status::wants_key(),
            Unfit::Expired(name) => status::key_expired(&name),
        })?;
        match access {
            Access::Public => Ok(caller),
            Access::Pod(_) if caller.is_own_pod => Ok(caller),
            Access::Needs(scope) | Access::Pod(scope) => match caller.may(scope) {
                Ok(()) => Ok(caller),
                Err(refusal) => {
                    if !matches!(head.method, Method::Get | Method::Head) {
                        let what = format!("{} {}", head.method, head.path);
                        log::audit(caller.name.as_deref(), None, &what, "403");
                    }
                    Err(status::refused(&refusal))
                }
            },
        }
    }

    fn answer(&self, request: &Request) -> Reply {
        let reply = match request.head.path.as_str() {
            path if page::template(path).is_some() => page::answer(&request.head),
            path if mcp::is_for(path) => self.mcp.answer(request),
            path if sse::is_for(path) => sse::answer(&self.mcp, request),
            _ => self.rest.answer(request),
        };
        match reply {
            Reply::Flow(inner) if request.caller.key.is_some() => {
                let (keys, caller) = (self.keys.clone(), request.caller.clone());
                Reply::Flow(Box::new(KeyedFlow { inner, keys, caller, looked: Instant::now() }))
            }
            reply => reply,
        }
    }

    fn note(&self, head: Option<&Head>, status: u16) {
        let (route, method) = head.map_or(("unreadable", "none"), |head| {
            let route = match head.path.as_str() {
                path if mcp::is_for(path) => mcp::PATH,
                path if path.trim_end_matches('/') == sse::STREAM => sse::STREAM,
                path if sse::is_for(path) => sse::MESSAGES,
                path if page::template(path).is_some() => page::template(path).unwrap_or_default(),
                _ => routes::template(head).unwrap_or("unknown"),
            };
            (route, method_name(&head.method))
        });
        metrics::request(route, method, status);
    }

    fn headers(&self, head: &Head) -> Vec<(&'static str, String)> {
        let mut headers = self.guard.cors(head);
        if self.keys.are_wanted() && is_key_in_address(head) {
            // RFC 9745: since then it is not what should be used.
            headers.push(("Deprecation", KEY_IN_ADDRESS_SINCE.to_owned()));
        }
        headers
    }
}

/// 2026-01-01, as RFC 9745 writes it.
const KEY_IN_ADDRESS_SINCE: &str = "@1767225600";

/// One of few, whatever a client makes up.
fn method_name(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        _ => "other",
    }
}

impl Doors {
    /// A tool of MCP says itself what it needs.
    fn access(&self, head: &Head) -> Access {
        match head.path.as_str() {
            path if page::template(path).is_some() => Access::Public,
            path if mcp::is_for(path) || sse::is_for(path) => Access::Needs(Scope::Read),
            _ => routes::access(head),
        }
    }
}
