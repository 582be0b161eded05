//! Which hosts a repository may lie on: none of this machine's or its cloud's own services, unless that is configured.
//!
//! A URL is judged by its text when a job is taken in, and by what its name resolves to before git is started. Git
//! resolves the name again: who changes it in between is not stopped here.

use super::url::RepoUrl;
use crate::addresses;
use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

/// A resolver that takes longer says nothing: git will say why.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

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
    /// By the text of the URL alone.
    pub fn check(&self, url: &RepoUrl) -> Result<(), String> {
        let host = url.host.to_ascii_lowercase();
        let is_good = self.is_configured(&host) || (self.allowed.is_empty() && !self.is_own(name_of(&host)));
        if is_good { Ok(()) } else { Err(refusal(&host)) }
    }

    /// By the addresses that its name stands for just now. One that stands for none is left to git.
    pub fn check_addresses(&self, url: &RepoUrl) -> Result<(), String> {
        let host = url.host.to_ascii_lowercase();
        let is_own = |address: &IpAddr| self.is_own_address(*address);
        if self.is_configured(&host) || !addresses_of(name_of(&host)).iter().any(is_own) {
            return Ok(());
        }
        Err(refusal(&host))
    }

    /// Named by the settings, or no host at all.
    fn is_configured(&self, host: &str) -> bool {
        let name = name_of(host);
        let is_allowed = |rule: &String| match rule.to_ascii_lowercase() {
            rule if rule == *host || rule == *name => true,
            rule => rule.strip_prefix("*.").is_some_and(|below| {
                name.strip_suffix(below).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
            }),
        };
        host.is_empty() || *host == self.server.to_ascii_lowercase() || self.allowed.iter().any(is_allowed)
    }

    fn is_own(&self, name: &str) -> bool {
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if METADATA.contains(&name) || (is_local && !self.allow_local) {
            return true;
        }
        addresses::spelled(name).is_some_and(|address| self.is_own_address(address))
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_loopback = address.is_loopback() || address.is_unspecified();
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA_V6,
        };
        is_link_local || (is_loopback && !self.allow_local)
    }
}

/// The same sentence for each: what is there, and what is not, is nobody's business.
fn refusal(host: &str) -> String {
    format!(
        "repo_url is on `{host}`, which this server does not use: allowed are the hosts in AGENTICORE_REPO_HOSTS, if \
         that is set, and else all but this machine's own and its network's services"
    )
}

fn name_of(host: &str) -> &str {
    without_port(host).trim_matches(['[', ']']).trim_end_matches('.')
}

/// What a name stands for. The resolver of the C library knows no limit, so it is asked by a thread of its own.
fn addresses_of(name: &str) -> Vec<IpAddr> {
    let (told, hears) = mpsc::channel();
    let asked = (name.to_owned(), 0);
    let resolves = std::thread::Builder::new().name("resolver".into()).spawn(move || {
        let found = asked.to_socket_addrs().map(|found| found.map(|address| address.ip()).collect());
        let _ = told.send(found.unwrap_or_default());
    });
    match resolves {
        Ok(_) => hears.recv_timeout(RESOLVE_LIMIT).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
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
    fn addresses_are_judged_in_every_form() {
        let hosts = |allow_local| Hosts { server: "", allowed: &[], allow_local };
        for (address, locally) in [
            ("127.0.0.1", false),
            ("::1", false),
            ("0.0.0.0", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", true),
            ("::ffff:169.254.1.1", true),
            ("fe80::1", true),
        ] {
            let address = address.parse().unwrap();
            assert!(hosts(false).is_own_address(address), "{address}");
            assert_eq!(hosts(true).is_own_address(address), locally, "{address}");
        }
        assert!(
            ["10.0.0.1", "192.168.1.1", "fd00::1"].iter().all(|ip| !hosts(false).is_own_address(ip.parse().unwrap()))
        );
        assert_eq!(addresses_of("127.0.0.1"), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
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
