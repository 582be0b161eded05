//! Sends spans to a collector, a batch at a time, from a thread of its own. Tried once: what a collector that is away
//! misses is lost.

use super::otlp::{self, Source};
use super::{Span, Value};
use crate::config::{Config, Otel};
use crate::log;
use crate::redact::Redactor;
use crate::web;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// So many spans wait at most: those of a hundred jobs that end at once.
const QUEUE: usize = 1_024;
/// So many go in one request.
const BATCH: usize = 256;
/// What comes so soon after another goes with it.
const GATHER: Duration = Duration::from_millis(500);
/// How long the collector may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long the end of the server waits for the rest to be sent.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

enum Order {
    Span(Box<Span>),
    /// Answered once all before it is sent.
    Finish(SyncSender<()>),
}

pub struct Exporter(SyncSender<Order>);

struct Collector {
    agent: ureq::Agent,
    url: String,
    headers: Vec<(String, String)>,
    as_json: bool,
    service: String,
    instance: String,
    redactor: Redactor,
}

impl Exporter {
    pub fn start(config: &Config, settings: &Otel) -> Result<Self, String> {
        let url = format!("{}/v1/traces", settings.endpoint);
        let proxy = config.proxy_to(&url);
        let client = web::client(config.ca_file(), proxy.as_deref(), REQUEST_LIMIT);
        let client = client.map_err(|why| format!("for {url} {why}"))?;
        let collector = Collector {
            agent: client.into(),
            url,
            headers: settings.headers(),
            as_json: settings.protocol == "http/json",
            service: config.variables.get("OTEL_SERVICE_NAME").cloned().unwrap_or_else(|| "agenticore".into()),
            instance: config.pod_name.clone(),
            redactor: Redactor::new(config.secrets()),
        };
        let (orders, heard) = mpsc::sync_channel(QUEUE);
        let sends = std::thread::Builder::new().name("spans".into());
        // Sends spans; ends with the process.
        sends.spawn(move || collector.run(&heard)).map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self(orders))
    }

    /// Where there is no room the span is dropped.
    pub fn send(&self, span: Span) {
        if self.0.try_send(Order::Span(Box::new(span))).is_err() {
            crate::metrics::event("span_dropped");
        }
    }

    pub fn finish(&self) {
        let (done, hears) = mpsc::sync_channel(1);
        if self.0.try_send(Order::Finish(done)).is_ok() {
            let _ = hears.recv_timeout(FINISH_LIMIT);
        }
    }
}

impl Collector {
    fn run(&self, orders: &Receiver<Order>) {
        let mut was_well = true;
        while let Ok(order) = orders.recv() {
            let (mut spans, mut finish) = (Vec::new(), None);
            match order {
                Order::Span(span) => spans.push(*span),
                Order::Finish(done) => finish = Some(done),
            }
            let until = Instant::now() + GATHER;
            while finish.is_none() && spans.len() < BATCH {
                match orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(Order::Span(span)) => spans.push(*span),
                    Ok(Order::Finish(done)) => finish = Some(done),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            if !spans.is_empty() {
                spans.iter_mut().for_each(|span| self.clean(span));
                let sent = self.send(&spans);
                if let Err(why) = &sent
                    && was_well
                {
                    log::warn(&format!("traces are lost: the collector at {} {why}", self.url));
                }
                was_well = sent.is_ok();
            }
            if let Some(done) = finish {
                let _ = done.send(());
            }
        }
    }

    /// Labels are whatever somebody wrote.
    fn clean(&self, span: &mut Span) {
        for (_, value) in &mut span.attributes {
            if let Value::Text(text) = value {
                *text = self.redactor.clean(std::mem::take(text));
            }
        }
        span.error = span.error.take().map(|error| self.redactor.clean(error));
    }

    fn send(&self, spans: &[Span]) -> Result<(), String> {
        let source = Source { service: &self.service, instance: &self.instance };
        let (kind, body) = match self.as_json {
            true => ("application/json", otlp::json(&source, spans)),
            false => ("application/x-protobuf", otlp::protobuf(&source, spans)),
        };
        let request = self.agent.post(&self.url).header("content-type", kind);
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        match request.send(&body[..]).map(|answer| answer.status().as_u16()) {
            Ok(200..=299) => Ok(()),
            Ok(status) => Err(format!("answered {status}")),
            Err(error) => Err(format!("cannot be reached: {error}")),
        }
    }
}
