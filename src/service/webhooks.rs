//! What is told of jobs by webhooks: shown, and tried again.

use super::{Refusal, Service};
use crate::api::{Webhook, WebhookState, WebhooksAnswer, WebhooksRetried};
use crate::job::{JobId, Record, Time};
use crate::log;
use crate::store::outbox::{About, Delivery, Notice, Shelf};
use crate::webhook;

/// The most that are shown at once.
const SHOWN_MOST: usize = 1_000;

impl Service {
    /// What a job's own URL may be here.
    pub(super) fn judge_webhook(&self, url: Option<&str>) -> Result<(), Refusal> {
        let Some(url) = url else { return Ok(()) };
        let settings = &self.config().webhooks;
        if settings.secrets.is_empty() {
            let why = "`webhook_url` needs a server that signs what it tells: its operator has to set \
                       AGENTICORE_WEBHOOK_SECRET";
            return Err(Refusal::invalid("webhook_url", why));
        }
        webhook::judge(url, settings.allow_private).map_err(|why| Refusal::invalid("webhook_url", why))
    }

    /// A job's own URL, for a job that is made of it: where this server tells nobody any more there is none.
    pub(super) fn still_told(&self, earlier: &Record) -> Option<String> {
        let url = earlier.webhook_url.clone()?;
        match self.judge_webhook(Some(&url)) {
            Ok(()) => Some(url),
            Err(refusal) => {
                log::job(&earlier.id).warn(format!("what is made of it has no webhook_url: {refusal}"));
                None
            }
        }
    }

    /// Who is told of a job, and how far that is.
    pub(super) fn webhooks_of(&self, id: &JobId) -> Vec<Webhook> {
        let Some(outbox) = self.runner.store.outbox() else { return Vec::new() };
        let found = About::ALL.into_iter().filter_map(|about| outbox.find(id, about).ok()?);
        found.flat_map(|(_, notice)| self.shown_of(&notice)).collect()
    }

    fn shown_of(&self, notice: &Notice) -> Vec<Webhook> {
        if notice.body.is_some() {
            return shown(notice, &notice.deliveries);
        }
        // Nobody has looked yet at whom to tell: those whom the settings name now.
        let own = notice.record.as_ref().and_then(|record| record.webhook_url.as_deref());
        match webhook::receivers(self.config(), own, notice.made_at) {
            all if !all.is_empty() => shown(notice, &all),
            // Nobody, as things stand: it is there all the same.
            _ => shown(notice, &[Delivery { next_at: Some(notice.made_at), ..Delivery::to("…") }]),
        }
    }

    /// Those that wait, and those that failed.
    pub fn webhooks(&self) -> WebhooksAnswer {
        let mut all: Vec<Webhook> = Vec::new();
        let mut more = false;
        if let Some(outbox) = self.runner.store.outbox() {
            for shelf in [Shelf::Failed, Shelf::Waiting] {
                for (id, about) in outbox.names(shelf) {
                    if all.len() >= SHOWN_MOST {
                        more = true;
                        break;
                    }
                    let notice = outbox.read(shelf, &id, about);
                    let of_notice = notice.iter().flat_map(|notice| self.shown_of(notice));
                    all.extend(of_notice.filter(|one| one.state != WebhookState::Told));
                }
            }
        }
        all.sort_by(|one, other| (one.next_at, &one.job_id).cmp(&(other.next_at, &other.job_id)));
        let warning = self.tells_nobody().filter(|_| !all.is_empty());
        WebhooksAnswer { success: true, count: all.len(), webhooks: all, more, warning }
    }

    /// What there is to tell stays as it is.
    fn tells_nobody(&self) -> Option<String> {
        let is_mute = self.config().webhooks.secrets.is_empty();
        is_mute.then(|| {
            "this server tells nobody, because it has no AGENTICORE_WEBHOOK_SECRET to sign with: set that, and restart"
                .into()
        })
    }

    /// Whoever was given up is tried again, and whoever waits is tried now.
    pub fn retry_webhooks(&self) -> Result<WebhooksRetried, Refusal> {
        if let Some(why) = self.tells_nobody() {
            return Err(Refusal::Conflict(why));
        }
        let Some(outbox) = self.runner.store.outbox() else {
            return Ok(WebhooksRetried { success: true, count: 0 });
        };
        let mut count = 0;
        // All names first: what is tried again moves from the one to the other.
        let names: Vec<_> = [Shelf::Failed, Shelf::Waiting].into_iter().flat_map(|shelf| outbox.names(shelf)).collect();
        for (id, about) in names {
            let changed = outbox.change(&id, about, |notice| {
                let is_wanted = |one: &&mut Delivery| one.told_at.is_none() && !one.is_unwanted;
                for one in notice.deliveries.iter_mut().filter(is_wanted) {
                    (one.tries, one.next_at) = (0, Some(Time::now()));
                    count += 1;
                }
            });
            changed.map_err(Refusal::Unavailable)?;
        }
        Ok(WebhooksRetried { success: true, count })
    }
}

fn shown(notice: &Notice, deliveries: &[Delivery]) -> Vec<Webhook> {
    let one = |delivery: &Delivery| Webhook {
        job_id: notice.job.clone(),
        event: notice.about.as_str().into(),
        url: webhook::shown(&delivery.url),
        state: match (delivery.told_at, delivery.next_at) {
            (Some(_), _) => WebhookState::Told,
            (None, Some(_)) => WebhookState::Waiting,
            (None, None) => WebhookState::Failed,
        },
        tries: delivery.tries,
        next_at: delivery.next_at,
        told_at: delivery.told_at,
        last: delivery.last.clone(),
    };
    deliveries.iter().map(one).collect()
}
