//! Spans as OpenTelemetry's protocol (OTLP 1) writes them: as protobuf, with the numbers of its own definition, and as
//! JSON. Pure.

use super::{Span, Value};
use crate::job::Time;
use crate::trace_context::to_hex;
use prost::Message;
use serde_json::json;

/// Whose spans they are.
pub struct Source<'a> {
    pub service: &'a str,
    pub instance: &'a str,
}

/// Kinds of a span: something inside, and the answer to a request.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
/// A span's status.
const ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<WireSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "OneOf", tags = "1, 3, 4")]
    value: Option<OneOf>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum OneOf {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
    #[prost(double, tag = "4")]
    Amount(f64),
}

fn of_source(source: &Source) -> Vec<(String, Value)> {
    let text = |name: &str, value: &str| (name.to_owned(), Value::Text(value.to_owned()));
    vec![
        text("service.name", source.service),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", source.instance),
    ]
}

fn nanoseconds(time: Time) -> u64 {
    u64::try_from(time.0).unwrap_or_default().saturating_mul(1_000_000)
}

fn kind_of(span: &Span) -> i32 {
    if span.name == super::JOB { SERVER } else { INTERNAL }
}

pub fn protobuf(source: &Source, spans: &[Span]) -> Vec<u8> {
    let pairs = |pairs: &[(String, Value)]| -> Vec<KeyValue> {
        let one = |(key, value): &(String, Value)| {
            let value = match value {
                Value::Text(text) => OneOf::Text(text.clone()),
                Value::Number(number) => OneOf::Number(*number),
                Value::Amount(amount) => OneOf::Amount(*amount),
            };
            KeyValue { key: key.clone(), value: Some(AnyValue { value: Some(value) }) }
        };
        pairs.iter().map(one).collect()
    };
    let one = |span: &Span| WireSpan {
        trace_id: span.context.trace_id.to_vec(),
        span_id: span.context.span_id.to_vec(),
        parent_span_id: span.parent.map(|id| id.to_vec()).unwrap_or_default(),
        name: span.name.to_owned(),
        kind: kind_of(span),
        start: nanoseconds(span.begin),
        end: nanoseconds(span.end),
        attributes: pairs(&span.attributes),
        status: span.error.clone().map(|message| Status { message, code: ERROR }),
        flags: span.context.flags.into(),
    };
    let scope = Scope { name: "agenticore".into(), version: env!("CARGO_PKG_VERSION").into() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.iter().map(one).collect() }];
    let resource = Resource { attributes: pairs(&of_source(source)) };
    Request { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }.encode_to_vec()
}

pub fn json(source: &Source, spans: &[Span]) -> Vec<u8> {
    let pairs = |pairs: &[(String, Value)]| -> Vec<serde_json::Value> {
        let one = |(key, value): &(String, Value)| {
            // Numbers of 64 bits are texts there.
            let value = match value {
                Value::Text(text) => json!({"stringValue": text}),
                Value::Number(number) => json!({"intValue": number.to_string()}),
                Value::Amount(amount) => json!({"doubleValue": amount}),
            };
            json!({"key": key, "value": value})
        };
        pairs.iter().map(one).collect()
    };
    let one = |span: &Span| {
        let mut shown = json!({
            "traceId": to_hex(&span.context.trace_id),
            "spanId": to_hex(&span.context.span_id),
            "name": span.name,
            "kind": kind_of(span),
            "startTimeUnixNano": nanoseconds(span.begin).to_string(),
            "endTimeUnixNano": nanoseconds(span.end).to_string(),
            "attributes": pairs(&span.attributes),
            "flags": span.context.flags,
        });
        if let Some(parent) = span.parent {
            shown["parentSpanId"] = to_hex(&parent).into();
        }
        if let Some(why) = &span.error {
            shown["status"] = json!({"message": why, "code": ERROR});
        }
        shown
    };
    let scope = json!({"name": "agenticore", "version": env!("CARGO_PKG_VERSION")});
    let scope_spans = json!([{"scope": scope, "spans": spans.iter().map(one).collect::<Vec<_>>()}]);
    let resource = json!({"attributes": pairs(&of_source(source))});
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": scope_spans}]}).to_string().into_bytes()
}
