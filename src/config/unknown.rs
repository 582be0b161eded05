//! What was given and means nothing here: a name that is near a known one was probably meant as that. Pure.

use super::settings::{OLDER_NAMES, TABLE, is_service_link};
use crate::suggest;
use std::collections::BTreeMap;

/// Names of the Python program that this one takes and has no use for, or not yet.
const TAKEN: &[&str] = &[SYNC_INTERVAL];
const TAKEN_KEYS: &[&str] =
    &["agentihooks_sync_interval", "langfuse.host", "langfuse.public_key", "langfuse.secret_key"];
/// Taken, and said to be of no use.
const SYNC_INTERVAL: &str = "AGENTICORE_AGENTIHOOKS_SYNC_INTERVAL";

/// What a process of ours sets for another one of ours, and what tests set.
const OWN: &[&str] = &["AGENTICORE_TEST_", "AGENTICORE_BELOW_INIT", "AGENTICORE_ASKPASS"];

/// A sentence for each name that is known to nobody.
pub fn warnings(variables: &BTreeMap<String, String>, file: &BTreeMap<String, String>) -> Vec<String> {
    let of_keys = file.keys().filter(|key| !is_known_key(key)).map(|key| {
        let meant = suggest::did_you_mean(key, TABLE.iter().map(|row| row.key));
        format!("config.yml: the key `{key}` is not known and is ignored{meant}")
    });
    let set = variables.iter().filter(|(_, value)| !value.trim().is_empty());
    let unknown = set.filter(|(name, value)| !is_known_variable(name, value));
    let of_variables = unknown.map(|(name, _)| {
        let meant = suggest::did_you_mean(name, TABLE.iter().map(|row| row.variable));
        format!("the variable {name} is not known and is ignored{meant}")
    });
    let no_interval = variables.get(SYNC_INTERVAL).filter(|value| !value.trim().is_empty()).map(|_| {
        format!("{SYNC_INTERVAL} does nothing any more: checkouts are fetched again by `agenticore hooks sync`")
    });
    of_keys.chain(of_variables).chain(no_interval).collect()
}

fn is_known_key(key: &str) -> bool {
    TABLE.iter().any(|row| row.key == key) || TAKEN_KEYS.contains(&key)
}

/// Names without our beginning are other programs' business.
fn is_known_variable(name: &str, value: &str) -> bool {
    !name.starts_with("AGENTICORE_")
        || TABLE.iter().any(|row| row.variable == name)
        || OLDER_NAMES.iter().any(|(_, older)| *older == name)
        || TAKEN.contains(&name)
        || OWN.iter().any(|own| name.starts_with(own))
        || is_set_by_kubernetes(name, value)
}

/// For each Service that a pod can see, Kubernetes sets `{SERVICE}_SERVICE_HOST`, `{SERVICE}_SERVICE_PORT…` and
/// `{SERVICE}_PORT…`; the Service may be called agenticore, or agenticore-something.
fn is_set_by_kubernetes(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || is_service_link(value)
        || name.split_once("_PORT_").is_some_and(|(_, rest)| {
            let (port, rest) = rest.split_once('_').unwrap_or((rest, ""));
            port.bytes().all(|b| b.is_ascii_digit()) && ["TCP", "UDP", "SCTP"].iter().any(|kind| rest.starts_with(kind))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], file: &[(&str, &str)]) -> Vec<String> {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        warnings(&map(variables), &map(file))
    }

    #[test]
    fn a_typo_is_named_and_so_is_what_was_meant() {
        let found = of(&[("AGENTICORE_MAX_PARALEL_JOBS", "5"), ("AGENTICORE_COLOUR", "blue")], &[("repo.root", "/x")]);
        assert!(found[0].contains("`repo.root`") && found[0].ends_with("did you mean `repos.root`?"), "{found:?}");
        assert_eq!(found[1], "the variable AGENTICORE_COLOUR is not known and is ignored");
        assert!(found[2].ends_with("did you mean `AGENTICORE_MAX_PARALLEL_JOBS`?"), "{found:?}");
    }

    #[test]
    fn names_of_others_are_left_alone() {
        let variables = [
            ("PATH", "/bin"),
            ("AGENTIHOOKS_PROFILE", "x"),
            ("AGENTICORE_TRANSPORT", "sse"),
            ("AGENTICORE_COLOUR", " "),
            ("AGENTICORE_SERVICE_HOST", "10.0.0.1"),
            ("AGENTICORE_HEADLESS_SERVICE_PORT_HTTP", "8200"),
            ("AGENTICORE_PORT", "tcp://10.0.0.1:8200"),
            ("AGENTICORE_PORT_8200_TCP", "tcp://10.0.0.1:8200"),
            ("AGENTICORE_PORT_8200_TCP_ADDR", "10.0.0.1"),
            ("AGENTICORE_HEADLESS_PORT_8200_TCP_PROTO", "tcp"),
            ("AGENTICORE_REDIS_PORT", "tcp://10.0.0.1:6379"),
        ];
        assert_eq!(of(&variables, &[("langfuse.host", "x"), ("server.transport", "sse")]), [] as [&str; 0]);
    }

    #[test]
    fn what_does_nothing_any_more_is_said_once() {
        let said = of(&[(SYNC_INTERVAL, "60")], &[]);
        assert!(said.len() == 1 && said[0].contains("agenticore hooks sync"), "{said:?}");
    }
}
