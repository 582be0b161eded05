//! Which proxy leads to a host: one reading of the variables, for the API's client as for git, which curl reads them
//! for. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// The same variables with lists that every program reads alike: without blanks, whatever separates their words.
pub fn normalized(mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for name in NO_PROXY {
        if let Some(list) = variables.get_mut(name) {
            *list = words(list).collect::<Vec<_>>().join(",");
        }
    }
    variables
}

/// The proxy that `url` is reached through, as curl chooses it.
pub fn of_url(variables: &BTreeMap<String, String>, url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host.split(':').next()?,
    };
    let names: &[&str] = match scheme {
        "https" => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        // Not HTTP_PROXY: where a program answers requests, a request's header could set that.
        _ => &["http_proxy", "all_proxy", "ALL_PROXY"],
    };
    let set = |names: &[&str]| {
        let values = names.iter().filter_map(|name| variables.get(*name));
        values.map(|value| value.trim()).find(|value| !value.is_empty()).map(str::to_owned)
    };
    let proxy = set(names)?;
    let is_direct = set(&NO_PROXY).is_some_and(|list| words(&list).any(|word| matches(word, host)));
    (!is_direct).then_some(proxy)
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
            ("http://api.example", None),
        ] {
            assert_eq!(of_url(&set, url).as_deref(), proxy, "{url}");
        }
        let all = variables(&[("ALL_PROXY", "http://a:1"), ("no_proxy", "*")]);
        assert_eq!(of_url(&all, "https://x"), None);
        assert_eq!(of_url(&variables(&[("https_proxy", " ")]), "https://x"), None);
        assert_eq!(normalized(set)["NO_PROXY"], "localhost,.internal.example,10.0.0.0/8,example.org,[fd00::1]");
    }
}
