//! Which hosts a repository may lie on: none of this machine's or its cloud's own services, unless that is configured.
//! Pure; what a name resolves to is not looked at.

use super::url::RepoUrl;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names of services that tell a machine its own credentials.
const METADATA: [&str; 4] = ["metadata", "metadata.google.internal", "metadata.goog", "instance-data"];
/// The address of such a service on AWS, over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

pub struct Hosts<'a> {
    /// The host of GITHUB_SERVER_URL: it is configured, wherever it is.
    pub server: &'a str,
    /// AGENTICORE_REPO_HOSTS: no others, if there are any. `*.example.com` stands for all below.
    pub allowed: &'a [String],
    /// Repositories on this machine are allowed, and so is its loopback.
    pub allow_local: bool,
}

impl Hosts<'_> {
    /// The same sentence for each: what is there, and what is not, is nobody's business.
    pub fn check(&self, url: &RepoUrl) -> Result<(), String> {
        let host = url.host.to_ascii_lowercase();
        if host.is_empty() || host == self.server.to_ascii_lowercase() {
            return Ok(());
        }
        let name = without_port(&host).trim_matches(['[', ']']).trim_end_matches('.');
        let is_allowed = |rule: &String| match rule.to_ascii_lowercase() {
            rule if rule == host || rule == name => true,
            rule => rule.strip_prefix("*.").is_some_and(|below| {
                name.strip_suffix(below).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
            }),
        };
        let is_listed = self.allowed.iter().any(is_allowed);
        if is_listed || (self.allowed.is_empty() && !self.is_own(name)) {
            return Ok(());
        }
        Err(format!(
            "repo_url is on `{host}`, which this server does not use: allowed are the hosts in AGENTICORE_REPO_HOSTS, \
             if that is set, and else all but this machine's own and its network's services"
        ))
    }

    fn is_own(&self, name: &str) -> bool {
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if METADATA.contains(&name) || (is_local && !self.allow_local) {
            return true;
        }
        match address_of(name) {
            Some(IpAddr::V4(address)) => {
                address.is_link_local() || (!self.allow_local && (address.is_loopback() || address.is_unspecified()))
            }
            Some(IpAddr::V6(address)) => {
                let is_loopback = address.is_loopback() || address.is_unspecified();
                address.is_unicast_link_local() || address == METADATA_V6 || (!self.allow_local && is_loopback)
            }
            None => false,
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The address that a name is, in every spelling that the C library takes: `127.1`, `0x7f.1`, `2130706433`.
fn address_of(name: &str) -> Option<IpAddr> {
    if let Ok(address) = name.parse::<Ipv6Addr>() {
        return Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4));
    }
    let number = |part: &str| match part.to_ascii_lowercase() {
        part if part.starts_with("0x") => u64::from_str_radix(&part[2..], 16).ok(),
        part if part.len() > 1 && part.starts_with('0') => u64::from_str_radix(&part[1..], 8).ok(),
        part => part.parse().ok(),
    };
    let parts: Vec<u64> = name.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) {
        return None;
    }
    let rest = 32 - 8 * first.len() as u32;
    let fits = rest == 32 && *last <= u64::from(u32::MAX) || *last < 1 << rest;
    let begin = first.iter().fold(0_u64, |sum, part| (sum << 8) | part) << rest;
    fits.then(|| IpAddr::V4(Ipv4Addr::from((begin | last) as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::url::{self, Policy};

    fn check(text: &str, allow_local: bool, allowed: &[&str]) -> bool {
        let url = url::judge(text, Policy { allow_local: true, allow_http: true }).unwrap();
        let allowed: Vec<String> = allowed.iter().map(|text| text.to_string()).collect();
        Hosts { server: "git.example:8443", allowed: &allowed, allow_local }.check(&url).is_ok()
    }

    #[test]
    fn this_machines_own_services_are_no_repositories() {
        for own in [
            "http://127.0.0.1/o/r",
            "http://127.1:6379/o/r",
            "https://2130706433/o/r",
            "https://0x7f.1/o/r",
            "https://0177.0.0.1/o/r",
            "https://[::1]/o/r",
            "https://[::ffff:127.0.0.1]/o/r",
            "https://localhost./o/r",
            "https://a.localhost/o/r",
            "https://0.0.0.0/o/r",
            "ssh://git@127.0.0.1:22/o/r",
            "git@localhost:o/r",
        ] {
            assert!(!check(own, false, &[]) && check(own, true, &[]), "{own}");
        }
        for never in [
            "https://169.254.169.254/latest",
            "https://2852039166/latest",
            "https://[fe80::1]/x",
            "https://[fd00:ec2::254]/x",
            "https://metadata.google.internal/x",
        ] {
            assert!(!check(never, false, &[]) && !check(never, true, &[]), "{never}");
        }
        for good in
            ["https://github.com/o/r", "https://10.1.2.3/o/r", "git@git.corp:o/r", "https://git.example:8443/o/r"]
        {
            assert!(check(good, false, &[]), "{good}");
        }
    }

    #[test]
    fn hosts_can_be_named() {
        let allowed = ["github.com", "*.corp.example", "127.0.0.1"];
        for good in ["https://github.com/o/r", "git@a.corp.example:o/r", "http://127.0.0.1:3000/o/r"] {
            assert!(check(good, false, &allowed), "{good}");
        }
        for bad in
            ["https://gitlab.com/o/r", "https://corp.example/o/r", "https://xcorp.example/o/r", "https://[::1]/x"]
        {
            assert!(!check(bad, true, &allowed), "{bad}");
        }
        assert!(check("/srv/r", true, &allowed) && check("https://git.example:8443/o/r", false, &allowed));
    }
}
