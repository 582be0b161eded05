//! Which proxy leads to a host: one reading of the variables for our own clients, for git and for Claude, which each
//! read them in a way of their own. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Each in both spellings. Where they differ the small one counts, as for curl.
const NAMES: [(&str, &str); 4] = [
    ("http_proxy", "HTTP_PROXY"),
    ("https_proxy", "HTTPS_PROXY"),
    ("all_proxy", "ALL_PROXY"),
    ("no_proxy", "NO_PROXY"),
];
/// What no proxy can reach for us.
const OWN: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// The same in a cluster.
const OF_CLUSTER: [&str; 2] = [".svc", ".cluster.local"];
/// Where Claude may be told to find its model.
const MODEL_URLS: [&str; 5] = [
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_BEDROCK_BASE_URL",
    "ANTHROPIC_BEDROCK_MANTLE_BASE_URL",
    "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_FOUNDRY_BASE_URL",
];

/// The variables as every program reads them alike: both spellings hold the same, `proxy` (AGENTICORE_PROXY) where
/// nothing else is said, the list of exceptions without blanks and with this machine in it.
pub fn normalized(mut variables: BTreeMap<String, String>, proxy: Option<&str>) -> BTreeMap<String, String> {
    for (small, large) in NAMES {
        let given = [small, large].into_iter().filter_map(|name| variables.get(name));
        let given = given.map(|value| value.trim()).find(|value| !value.is_empty()).map(str::to_owned);
        let value =
            given.or_else(|| proxy.filter(|_| matches!(small, "http_proxy" | "https_proxy")).map(str::to_owned));
        for name in [small, large] {
            match &value {
                Some(value) => drop(variables.insert(name.to_owned(), value.clone())),
                None => drop(variables.remove(name)),
            }
        }
    }
    if ["http_proxy", "https_proxy", "all_proxy"].iter().any(|name| variables.contains_key(*name)) {
        let list = exceptions(&variables);
        variables.insert("no_proxy".to_owned(), list.clone());
        variables.insert("NO_PROXY".to_owned(), list);
    } else if let Some(list) = variables.get("no_proxy").map(|list| words(list).collect::<Vec<_>>().join(",")) {
        variables.insert("no_proxy".to_owned(), list.clone());
        variables.insert("NO_PROXY".to_owned(), list);
    }
    variables
}

/// What is given, this machine, and the host of the model if the list says that it is reached directly: Claude does not
/// read ranges of addresses (2.1.330).
fn exceptions(variables: &BTreeMap<String, String>) -> String {
    let given = variables.get("no_proxy").map(String::as_str).unwrap_or_default();
    if words(given).any(|word| word == "*") {
        // Programs heed it alone, not among other words.
        return "*".to_owned();
    }
    let cluster = variables.get("KUBERNETES_SERVICE_HOST").filter(|host| !host.is_empty());
    let of_cluster = cluster.into_iter().flat_map(|host| OF_CLUSTER.into_iter().chain([host.as_str()]));
    let models = MODEL_URLS.iter().filter_map(|name| variables.get(*name)).filter_map(|url| host_of(url));
    let direct = models.filter(|(_, host)| words(given).any(|word| matches(word, host))).map(|(_, host)| host);
    let mut list: Vec<&str> = Vec::new();
    for word in words(given).chain(OWN).chain(of_cluster).chain(direct) {
        if !list.contains(&word) {
            list.push(word);
        }
    }
    list.join(",")
}

/// Scheme and host.
fn host_of(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host.split(':').next()?,
    };
    Some((scheme, host))
}

/// The proxy that `url` is reached through, of variables that are normalized.
pub fn of_url(variables: &BTreeMap<String, String>, url: &str) -> Option<String> {
    let (scheme, host) = host_of(url)?;
    let own = if scheme == "https" { "https_proxy" } else { "http_proxy" };
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let proxy = set(own).or_else(|| set("all_proxy"))?;
    let is_direct = set("no_proxy").is_some_and(|list| words(list).any(|word| matches(word, host)));
    (!is_direct).then(|| proxy.clone())
}

/// What a proxy is logged in with, as it is written in addresses and as it is: the password, or the user where there is
/// none.
pub fn secrets(urls: &[&str]) -> Vec<String> {
    let logins = urls.iter().filter_map(|url| {
        let rest = url.split_once("://").map_or(*url, |(_, rest)| rest);
        let (login, _) = rest.rsplit_once('@')?;
        Some(login.split_once(':').map_or(login, |(_, password)| password))
    });
    logins.flat_map(|login| [login.to_owned(), decoded(login)]).collect()
}

pub fn decoded(text: &str) -> String {
    let pairs = format!("x={}", text.replace('+', "%2B"));
    form_urlencoded::parse(pairs.as_bytes()).next().map_or_else(String::new, |(_, value)| value.into_owned())
}

/// The addresses among the variables.
pub fn urls(variables: &BTreeMap<String, String>) -> Vec<&str> {
    NAMES[..3].iter().filter_map(|(small, _)| variables.get(*small)).map(String::as_str).collect()
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty())
}

/// `*`, a name and all below it (with a leading dot or without), an address, or a range of them.
fn matches(word: &str, host: &str) -> bool {
    if word == "*" {
        return true;
    }
    let address = host.parse::<IpAddr>().ok();
    if let (Some((network, bits)), Some(address)) = (word.split_once('/'), address) {
        return network.parse().is_ok_and(|network| in_range(address, network, bits));
    }
    if let Some(address) = address {
        return word.trim_matches(['[', ']']).parse() == Ok(address);
    }
    let name = word.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    !name.is_empty() && (host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.')))
}

fn in_range(address: IpAddr, network: IpAddr, bits: &str) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    let (one, other, width) = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits()), u128::from(other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    bits <= width && (bits == 0 || (one ^ other) >> (width - bits) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_host_is_reached_directly_or_through_the_proxy_as_curl_would() {
        let list = "localhost, .internal.example\t10.0.0.0/8 ,example.org,[fd00::1]";
        let set = variables(&[("HTTPS_PROXY", "http://p:1"), ("HTTP_PROXY", "http://q:2"), ("NO_PROXY", list)]);
        let set = normalized(set, None);
        for (url, proxy) in [
            ("https://api.github.com", Some("http://p:1")),
            ("https://git.internal.example:8443/api/v3", None),
            ("https://INTERNAL.example", None),
            ("https://notinternal.example", Some("http://p:1")),
            ("https://10.1.2.3/api", None),
            ("https://11.1.2.3/api", Some("http://p:1")),
            ("https://www.example.org", None),
            ("https://[fd00::1]:8443/x", None),
            ("https://localhost", None),
            ("http://127.0.0.1:8200", None),
            ("http://api.example", Some("http://q:2")),
        ] {
            assert_eq!(of_url(&set, url).as_deref(), proxy, "{url}");
        }
        let all = normalized(variables(&[("ALL_PROXY", "http://a:1"), ("no_proxy", "*")]), None);
        assert_eq!(of_url(&all, "https://x"), None);
        assert_eq!(of_url(&normalized(variables(&[("https_proxy", " ")]), None), "https://x"), None);
        let expected = "localhost,.internal.example,10.0.0.0/8,example.org,[fd00::1],127.0.0.1,::1";
        assert_eq!((set["NO_PROXY"].as_str(), set["no_proxy"].as_str()), (expected, expected));
    }

    #[test]
    fn one_variable_is_a_proxy_for_everything_but_this_machine_and_the_cluster() {
        let given = variables(&[
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("ANTHROPIC_BASE_URL", "http://10.1.2.3:4000/v1"),
            ("NO_PROXY", "10.0.0.0/8"),
        ]);
        let set = normalized(given, Some("http://user:pa55@p:3128"));
        assert_eq!(set["NO_PROXY"], "10.0.0.0/8,localhost,127.0.0.1,::1,.svc,.cluster.local,10.96.0.1,10.1.2.3");
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"] {
            assert_eq!(set[name], "http://user:pa55@p:3128");
        }
        assert!(secrets(&urls(&set)).iter().all(|secret| secret == "pa55") && secrets(&urls(&set)).len() == 4);
        assert_eq!(secrets(&["user:p%40ss@h:1", "http://token@h", "http://h:1"]), ["p%40ss", "p@ss", "token", "token"]);
        let none = normalized(variables(&[("NO_PROXY", "a,*")]), Some("http://p:1"));
        assert_eq!((none["NO_PROXY"].as_str(), of_url(&none, "https://x")), ("*", None));
        assert_eq!(of_url(&set, "http://redis.ai.svc:80"), None);
        let own = normalized(variables(&[("https_proxy", "http://other:1")]), Some("http://p:3128"));
        assert_eq!((own["HTTPS_PROXY"].as_str(), own["HTTP_PROXY"].as_str()), ("http://other:1", "http://p:3128"));
        assert!(!normalized(variables(&[("NO_PROXY", "a, b")]), None).contains_key("https_proxy"));
    }
}
