//! The ids of a job's trace, which follow from the job's own. Pure.

use super::AGENT;
use crate::job::Record;
use crate::trace_context::TraceParent;
use ring::digest::{SHA256, digest};

/// The bit of the flags that says: it is recorded.
pub const SAMPLED: u8 = 1;

fn hash(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

fn first<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hash(text)[..N]);
    // A hash is never all zeros, as far as anybody knows; an id must not be.
    bytes[N - 1] |= 1;
    bytes
}

/// The job's own span, and its parent where whoever submitted it named one.
pub fn of_job(record: &Record) -> (TraceParent, Option<[u8; 8]>) {
    let span_id = first(&format!("{}/job", record.id));
    match record.traceparent.as_deref().and_then(TraceParent::parse) {
        Some(caller) => (TraceParent { span_id, ..caller }, Some(caller.span_id)),
        None => (TraceParent { trace_id: first(record.id.as_str()), span_id, flags: SAMPLED }, None),
    }
}

/// Of a part of the present attempt.
pub fn span_id(record: &Record, name: &str) -> [u8; 8] {
    first(&format!("{}/{}/{name}", record.id, record.attempt))
}

/// What the agent's own spans stand below. `is_sent`: this server sends spans of its own; otherwise they stand below
/// what the caller named, if anything.
pub fn parent_of_agent(record: &Record, is_sent: bool) -> Option<TraceParent> {
    match is_sent {
        true => Some(TraceParent { span_id: span_id(record, AGENT), ..of_job(record).0 }),
        false => record.traceparent.as_deref().and_then(TraceParent::parse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::queued;

    #[test]
    fn ids_are_the_same_wherever_they_are_made() {
        let mut record: Record = queued().into();
        let (own, parent) = of_job(&record);
        assert_eq!((of_job(&record).0, parent), (own, None));
        assert_ne!(span_id(&record, "clone"), span_id(&record, "agent"));
        let first_attempt = span_id(&record, "agent");
        record.attempt += 1;
        assert_ne!(span_id(&record, "agent"), first_attempt);
        record.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".into());
        let (below, parent) = of_job(&record);
        assert_eq!((below.trace_id[0], below.flags, parent.map(|id| id[0])), (0x0a, 0, Some(0xb7)));
        assert_eq!(parent_of_agent(&record, false).unwrap().to_string(), record.traceparent.clone().unwrap());
        assert_eq!(parent_of_agent(&record, true).unwrap().trace_id, below.trace_id);
    }
}
