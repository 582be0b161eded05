//! What is told, and its signature: Standard Webhooks 1.0.0, symmetric. Pure.

use crate::api::Job;
use crate::job::{Record, Status, Time, cut};
use crate::store::outbox::{About, Notice};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::json;

/// The most of a long text in a message, in bytes; `GET /jobs/{id}` has the rest. All together stays below the 20 KB
/// that Standard Webhooks asks for.
const TEXT_LIMIT: usize = 3_000;

pub struct Message<'a> {
    /// The same on each try.
    pub id: String,
    pub body: &'a str,
}

impl<'a> Message<'a> {
    pub fn of(notice: &'a Notice) -> Self {
        let id = format!("msg_{}_{}", notice.job, notice.about.as_str());
        Self { id, body: notice.body.as_deref().unwrap_or_default() }
    }
}

pub fn body(record: &Record, about: About, made_at: Time) -> String {
    let mut job = Job::new(record, None);
    // Nobody but this server has a use for these.
    (job.worktree_path, job.job_config_dir, job.pid, job.file_path) = (None, None, None, None);
    job.task = cut(job.task, TEXT_LIMIT);
    for text in [&mut job.output, &mut job.error, &mut job.note, &mut job.kept_because, &mut job.caution] {
        *text = text.take().map(|text| cut(text, TEXT_LIMIT));
    }
    if about == About::Started {
        // It may have ended before that was told.
        (job.status, job.ended_at, job.exit_code) = (Status::Running, None, None);
        (job.output, job.error, job.note, job.pr_url) = (None, None, None, None);
    }
    let at = record.ended_at.filter(|_| about == About::Ended).or(record.started_at).unwrap_or(made_at);
    let told = json!({"type": format!("job.{}", about.as_str()), "timestamp": at, "data": {"job": job}});
    told.to_string()
}

/// `webhook-signature`, for a message that is sent now (seconds since 1970): one for each secret.
pub fn signature(secrets: &[Vec<u8>], message: &Message, seconds: i64) -> String {
    let signed = format!("{}.{seconds}.{}", message.id, message.body);
    let one = |secret: &Vec<u8>| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    };
    secrets.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::queued;

    /// Of the specification's libraries.
    #[test]
    fn it_is_signed_as_the_specification_says() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let message = Message { id: "msg_p5jXN8AQM9LWM0D4loKWxJek".into(), body: r#"{"test": 2432232314}"# };
        let signed = signature(&[secret], &message, 1614265330);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_message_is_small_whatever_the_job_is() {
        let mut record: Record = queued().into();
        record.task = "x".repeat(1 << 20);
        (record.output, record.error) = (Some("y".repeat(50_000)), Some("z".repeat(9_000)));
        let body = body(&record, About::Ended, Time(0));
        assert!(body.len() < 20_000, "{}", body.len());
        assert!(body.contains(r#""type":"job.ended""#), "{body}");
    }
}
