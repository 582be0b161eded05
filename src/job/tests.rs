//! The states of a job, and what moves it from one to the next. `spec` and `queued` are for the tests of others too.

use super::*;

pub fn spec() -> Spec {
    Spec {
        task: "t".into(),
        profile: "coding".into(),
        repo_url: None,
        base_ref: None,
        session_id: None,
        file_path: None,
        create_repo: false,
        private: true,
        mode: Mode::FireAndForget,
        ttl_seconds: 10,
        key: None,
        submitted_by: None,
        request_id: None,
        traceparent: None,
        labels: Default::default(),
        overrides: Default::default(),
        webhook_url: None,
        retry_of: None,
        purpose: Purpose::Task,
        plan_id: None,
        at_commit: None,
        worktree_id: None,
        runs_on: None,
    }
}

pub fn queued() -> Queued {
    Queued::new(JobId::random(), spec(), Time(1_000))
}

#[test]
fn the_third_lost_worker_ends_a_job() {
    let mut job = queued();
    for death in 1..DEATHS_LIMIT {
        let running = job.claim("pod", Time(2_000));
        assert_eq!(running.attempt, death);
        let Job::Queued(again) = running.lose_worker("gone", true, Time(3_000)) else { panic!() };
        job = again;
        assert_eq!(job.deaths, death);
    }
    let ended = job.claim("pod-7", Time(2_000)).lose_worker("gone", true, Time(3_000));
    assert_eq!(ended.status(), Status::Failed);
    let error = ended.error.clone().unwrap();
    assert!(error.contains("poison") && error.contains("pod-7"), "{error}");
}

#[test]
fn deaths_that_several_jobs_share_are_nobodys() {
    let mut job = queued();
    for _ in 0..5 {
        let Job::Queued(again) = job.claim("pod", Time(2_000)).lose_worker("gone", false, Time(3_000)) else {
            panic!()
        };
        job = again;
        assert!(job.runs_alone && job.deaths == 0);
    }
}

#[test]
fn handing_back_counts_no_death_and_keeps_what_was_achieved() {
    let mut job = queued();
    for _ in 0..5 {
        let mut running = job.claim("pod", Time(2_000));
        running.mark(Mark::Session("s".into()));
        job = running.hand_back();
    }
    assert_eq!((job.deaths, job.attempt), (0, 5));
    assert_eq!(job.session_id.as_deref(), Some("s"));
}

#[test]
fn only_a_job_that_was_never_claimed_expires() {
    let job = queued();
    assert!(!job.is_overdue(Time(11_000)));
    assert!(job.is_overdue(Time(11_001)));
    let back = job.claim("pod", Time(2_000)).hand_back();
    assert!(!back.is_overdue(Time(1_000_000)));
}

#[test]
fn the_verdict_decides_the_end() {
    for (succeeded, status) in [(true, Status::Succeeded), (false, Status::Failed)] {
        let mut job = queued().claim("pod", Time(2_000));
        let verdict = Verdict { succeeded, exit_code: Some(0), output: Some("o".into()), error: None };
        job.mark(Mark::AgentEnded { verdict, spent: Spent::default() });
        let ended = job.finish(Time(4_000));
        assert_eq!((ended.status(), ended.output.as_deref()), (status, Some("o")));
        assert_eq!(ended.leaves_at(), Time(14_000));
    }
}

#[test]
fn a_record_survives_json() {
    let record: Record = queued().claim("pod", Time(2_345)).into();
    let text = serde_json::to_string(&record).unwrap();
    let back: Record = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    assert!(text.contains(r#""started_at":"1970-01-01T00:00:02.345Z""#), "{text}");
    assert!(text.contains(r#""status":"running""#) && text.contains(r#""cost_usd":null"#), "{text}");
}
