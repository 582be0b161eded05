//! Which process a server is, so that others can tell whether it lives: a number alone is given again.

use super::proc_table;
use std::fmt;
use std::fs;

/// `PID:START:NAMESPACE`: START as /proc tells it, in ticks since the machine's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    pub pid: i32,
    started: u64,
    /// The PID namespace that the number is of.
    namespace: String,
}

impl ServerIdentity {
    pub fn own() -> Self {
        let pid = std::process::id() as i32;
        Self { pid, started: proc_table::started(pid).unwrap_or_default(), namespace: own_namespace() }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let pid = parts.next()?.parse().ok()?;
        let started = parts.next()?.parse().ok()?;
        Some(Self { pid, started, namespace: parts.next()?.to_owned() })
    }

    /// None: its process cannot be seen from here.
    pub fn lives(&self) -> Option<bool> {
        let is_visible = !self.namespace.is_empty() && self.namespace == own_namespace() && self.started > 0;
        is_visible.then(|| proc_table::started(self.pid) == Some(self.started))
    }
}

impl fmt::Display for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}:{}", self.pid, self.started, self.namespace)
    }
}

fn own_namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().replace("pid:", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_lives_is_told_from_one_of_its_number() {
        let own = ServerIdentity::own();
        assert_eq!(ServerIdentity::parse(&own.to_string()), Some(own.clone()));
        assert_eq!(own.lives(), Some(true));
        assert_eq!(ServerIdentity { started: own.started + 1, ..own.clone() }.lives(), Some(false));
        assert_eq!(ServerIdentity { namespace: "[1]".into(), ..own }.lives(), None);
        assert_eq!(ServerIdentity::parse("/jobs/.agents"), None);
    }
}
