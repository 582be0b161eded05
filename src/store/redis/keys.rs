//! The names of the keys. Pure.

use crate::job::JobId;

/// The format of what lies below the prefix. A server that finds a later one there takes no job.
pub const FORMAT: u32 = 1;

#[derive(Clone)]
pub struct Keys(String);

impl Keys {
    pub fn new(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }

    fn name(&self, rest: &str) -> String {
        format!("{}:{rest}", self.0)
    }

    /// What waits: LPUSH in, BRPOPLPUSH out. KEDA reads its length, so it is that list and nothing else.
    pub fn queue(&self) -> String {
        self.name("queue")
    }

    /// What waits for this pod, and may go to no other.
    pub fn queue_of(&self, pod: &str) -> String {
        self.name(&format!("queue:{pod}"))
    }

    /// The pods for which something waited once.
    pub fn pods_with_queue(&self) -> String {
        self.jobs_with("pods")
    }

    /// What was taken.
    pub fn running(&self) -> String {
        self.name("running")
    }

    pub fn job(&self, id: &JobId) -> String {
        self.name(&format!("job:{id}"))
    }

    pub fn lease(&self, id: &JobId) -> String {
        self.name(&format!("lease:{id}"))
    }

    pub fn events(&self, id: &JobId) -> String {
        self.name(&format!("events:{id}"))
    }

    /// All jobs by the time they were made. With `:STATUS`, those of a status; with `:plans` and `:worktrees`, those;
    /// with `:ids`, for finding one by the beginning of its id; with `:over`, the ended ones by when they leave; with
    /// `:due`, those that were never claimed by when they expire.
    pub fn jobs(&self) -> String {
        self.name("jobs")
    }

    pub fn jobs_with(&self, status: &str) -> String {
        self.name(&format!("jobs:{status}"))
    }

    pub fn ids(&self) -> String {
        self.jobs_with("ids")
    }

    pub fn due(&self) -> String {
        self.jobs_with("due")
    }

    pub fn over(&self) -> String {
        self.jobs_with("over")
    }

    /// The newest job that reported this Claude session.
    pub fn session(&self, session: &str) -> String {
        self.name(&format!("session:{session}"))
    }

    /// Where there is no second copy: what an Idempotency-Key stands for.
    pub fn idempotency(&self, name: &str) -> String {
        self.name(&format!("key:{name}"))
    }

    /// The incarnation of a pod that drains, and until when.
    pub fn draining(&self, pod: &str) -> String {
        self.name(&format!("pod:{pod}:draining"))
    }

    /// What a pod says of itself while it lives.
    pub fn pod(&self, pod: &str) -> String {
        self.name(&format!("pod:{pod}:state"))
    }

    /// What stands before and behind a pod's name in [`pod`](Self::pod).
    pub fn around_pod(&self) -> (String, String) {
        (self.name("pod:"), ":state".to_owned())
    }

    /// What stood in the queue and is no job of this program: put aside as it was, for whoever left it.
    pub fn foreign(&self) -> String {
        self.name("foreign")
    }

    /// What stood where a job's record should be.
    pub fn foreign_job(&self, id: &JobId) -> String {
        self.name(&format!("foreign:job:{id}"))
    }

    /// What each pod said last of how much it has to do.
    pub fn pods(&self) -> String {
        self.name("pods")
    }

    /// As long as the highest ordinal that runs a job, and one: an autoscaler reads its length.
    pub fn busy(&self) -> String {
        self.name("busy")
    }

    pub fn clone_lock(&self, repository: &str) -> String {
        self.name(&format!("lock:clone:{repository}"))
    }

    /// In which format all this is.
    pub fn format(&self) -> String {
        self.name("format")
    }

    /// The changes of all jobs: a stream of its last few thousand.
    pub fn changes(&self) -> String {
        self.name("events")
    }

    /// Wakes the one thread of a pod that follows streams.
    pub fn wake(&self, pod: &str) -> String {
        self.name(&format!("pod:{pod}:wake"))
    }

    /// The pod that holds a mailbox; with `:in`, what waits in it.
    pub fn mailbox(&self, id: &str) -> String {
        self.name(&format!("mailbox:{id}"))
    }

    /// Whose turn it is to do what one pod's doing is enough for.
    pub fn turn(&self, what: &str) -> String {
        self.name(&format!("turn:{what}"))
    }

    /// The run of Redis that knows all ended jobs.
    pub fn indexed(&self) -> String {
        self.name("indexed")
    }

    /// What every script of a job is given, in its order.
    pub fn of_script(&self, id: &JobId) -> [String; 7] {
        let of_job = [self.job(id), self.queue(), self.running(), self.lease(id), self.events(id)];
        let [job, queue, running, lease, events] = of_job;
        [job, queue, running, lease, events, self.jobs(), self.changes()]
    }
}
