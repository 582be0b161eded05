//! Which door a request goes to, after the guard has let it in.

use super::guard::{Guard, Refused, offered_keys};
use super::http::{Answer, Handler, Head, Reply, Request};
use super::mcp::{self, Mcp, sse};
use super::rest::{Rest, routes, status};
use std::sync::Arc;

pub struct Doors {
    pub guard: Guard,
    pub rest: Rest,
    pub mcp: Arc<Mcp>,
}

impl Handler for Doors {
    fn screen(&self, head: &Head) -> Result<(), Answer> {
        if self.guard.is_preflight(head) {
            return Err(Answer::empty(204));
        }
        self.guard.check_sender(head).map_err(|refused| match refused {
            Refused::Host(host) => status::problem(
                421,
                &format!("this server does not answer to the name `{host}`: add it to AGENTICORE_ALLOWED_HOSTS"),
            ),
            Refused::Page(origin) => status::problem(
                403,
                &format!("pages of `{origin}` may not use this server: add their origin to AGENTICORE_ALLOWED_ORIGINS"),
            ),
            Refused::Type(kind) => {
                status::problem(415, &format!("the body is `{kind}`, but must be JSON: send it as application/json"))
            }
        })?;
        let offered = offered_keys(head);
        let offered: Vec<&str> = offered.iter().map(|key| key.as_ref()).collect();
        let may_come_in = routes::is_public(&head.path) || sse::stands_for_a_key(head) || self.guard.admits(&offered);
        if may_come_in { Ok(()) } else { Err(status::wants_key()) }
    }

    fn answer(&self, request: &Request) -> Reply {
        match request.head.path.as_str() {
            path if mcp::is_for(path) => self.mcp.answer(request),
            path if sse::is_for(path) => sse::answer(&self.mcp, request),
            _ => self.rest.answer(request),
        }
    }

    fn headers(&self, head: &Head) -> Vec<(&'static str, String)> {
        self.guard.cors(head)
    }
}
