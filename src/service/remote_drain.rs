//! The drain of a server that cannot be reached, asked for through Redis by another process of its pod.

use crate::api::Drain;
use crate::config::Config;
use crate::store::redis::admin::Admin;
use std::time::{Duration, Instant};

/// How often it is looked whether the server heeds what it was asked.
const POLL: Duration = Duration::from_millis(300);
/// The server heeds what Redis says within a second or two.
const HEED_LIMIT: Duration = Duration::from_secs(60);

pub struct RemoteDrain {
    redis: Admin,
    /// The run of the server that is meant.
    incarnation: String,
}

impl RemoteDrain {
    /// None: there is no Redis. The error is a sentence.
    pub fn open(config: &Config) -> Option<Result<Self, String>> {
        let settings = config.redis.as_ref()?;
        let open = || {
            let redis = Admin::new(settings, &config.pod_name)?;
            match redis.state()? {
                Some(state) => Ok(Self { redis, incarnation: state.incarnation }),
                None => Err(format!("it knows no server of pod {} (AGENTICORE_POD_NAME)", config.pod_name)),
            }
        };
        Some(open())
    }

    pub fn begin(&self, limit: Duration) -> Result<Drain, String> {
        self.redis.ask_to_drain(&self.incarnation, Some(limit))?;
        self.wait_until(true)
    }

    pub fn take_back(&self) -> Result<Drain, String> {
        if !self.progress()?.draining {
            return self.progress();
        }
        self.redis.ask_to_drain(&self.incarnation, None)?;
        self.wait_until(false)
    }

    fn wait_until(&self, draining: bool) -> Result<Drain, String> {
        let until = Instant::now() + HEED_LIMIT;
        loop {
            let progress = self.progress()?;
            if progress.draining == draining {
                return Ok(progress);
            }
            if Instant::now() > until {
                return Err("the pod does not heed what Redis tells it".into());
            }
            std::thread::sleep(POLL);
        }
    }

    pub fn progress(&self) -> Result<Drain, String> {
        match self.redis.state()? {
            Some(state) if state.incarnation == self.incarnation => Ok(Drain {
                success: None,
                draining: state.draining,
                running: state.running,
                handed_back: state.handed_back,
                seconds_left: None,
            }),
            _ => Err("the pod went away, or was restarted, meanwhile".into()),
        }
    }
}
