//! What a fleet needs to know: where Redis is, and the times that leases go by. Pure.

use super::Error;
use super::values::Values;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What ending a tree takes beyond its grace: see `Redis::reserve`. The supervisor, who is the last resort,
/// begins 2.2 s before the lease's end; the server comes first.
const ENDING: Duration = Duration::from_millis(2500);

#[derive(Clone)]
pub struct Redis {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub username: Option<String>,
    pub password: Option<String>,
    pub database: i64,
    pub ca_file: Option<PathBuf>,
    pub sentinels: Vec<(String, u16)>,
    pub sentinel_master: String,
    pub sentinel_login: (Option<String>, Option<String>),
    pub prefix: String,
    pub timeout: Duration,
    pub lease: Duration,
    pub renew: Duration,
    /// How long before its lease runs out an attempt has to begin to end: Claude's grace, and what
    /// ending the rest takes.
    pub reserve: Duration,
    pub reap_period: Duration,
    pub reap_grace: Duration,
    pub sweep_period: Duration,
}

impl Redis {
    /// For people: where it is, without a secret.
    pub fn shown(&self) -> String {
        match self.sentinels.first() {
            None => format!("{}:{}", self.host, self.port),
            Some((host, port)) => format!("{} as known to the Sentinel at {host}:{port}", self.sentinel_master),
        }
    }
}

/// `authority`: whom TLS trusts if REDIS_CA_FILE does not say; empty: the machine's.
pub(super) fn read(values: &Values, kill_grace: Duration, authority: &Path) -> Result<Option<Redis>, Error> {
    let Some(url) = values.get("REDIS_URL") else {
        if values.get("REDIS_SENTINELS").is_some() && values.text("AGENTICORE_STORE") != "redis" {
            let why = "REDIS_SENTINELS is set, but not REDIS_URL, which holds the user, the password and the database";
            return Err(Error::Inconsistent(why.into()));
        }
        return Ok(None);
    };
    let server = parse(url).map_err(|why| Error::Inconsistent(format!("REDIS_URL {why}")))?;
    let sentinels = values.list("REDIS_SENTINELS").iter().map(|text| address(text)).collect::<Option<Vec<_>>>();
    let sentinels = sentinels.ok_or_else(|| {
        Error::Inconsistent("REDIS_SENTINELS must be HOST:PORT, several of them separated by commas".into())
    })?;
    let prefix = values.text("REDIS_KEY_PREFIX");
    if prefix.contains(char::is_whitespace) {
        return Err(Error::Inconsistent("REDIS_KEY_PREFIX must not contain blanks".into()));
    }
    let ca_file = values.path("REDIS_CA_FILE");
    if ca_file.is_some() && !server.tls {
        let why = "REDIS_CA_FILE is set, but REDIS_URL is not rediss://, so nothing would be encrypted";
        return Err(Error::Inconsistent(why.into()));
    }
    let ca_file =
        ca_file.or_else(|| Some(authority.to_owned()).filter(|path| server.tls && !path.as_os_str().is_empty()));
    let (lease, renew) = (values.duration("AGENTICORE_LEASE"), values.duration("AGENTICORE_LEASE_RENEW"));
    for name in ["REDIS_TIMEOUT", "AGENTICORE_REAP_PERIOD", "AGENTICORE_REAP_GRACE", "AGENTICORE_SWEEP_PERIOD"] {
        if values.duration(name).is_zero() {
            return Err(Error::Inconsistent(format!("{name} must be longer than 0")));
        }
    }
    let reserve = kill_grace + ENDING;
    if renew.is_zero() || renew * 2 + reserve > lease {
        return Err(Error::Inconsistent(format!(
            "AGENTICORE_LEASE is {} s, but must leave room for two renewals (AGENTICORE_LEASE_RENEW, {} s) and for \
             ending \
             Claude (AGENTICORE_KILL_GRACE and {} s more, {} s): make it at least {} s",
            lease.as_secs_f32(),
            renew.as_secs_f32(),
            ENDING.as_secs_f32(),
            reserve.as_secs_f32(),
            (renew * 2 + reserve).as_secs_f32()
        )));
    }
    let grace = values.duration("AGENTICORE_REAP_GRACE");
    if grace < renew * 2 {
        return Err(Error::Inconsistent(format!(
            "AGENTICORE_REAP_GRACE is {} s, but a healthy pod says only each {} s (AGENTICORE_LEASE_RENEW) that it is \
             there: make it at least twice as long",
            grace.as_secs_f32(),
            renew.as_secs_f32()
        )));
    }
    Ok(Some(Redis {
        ca_file,
        sentinels,
        sentinel_master: values.text("REDIS_SENTINEL_MASTER"),
        sentinel_login: (values.owned("REDIS_SENTINEL_USERNAME"), values.owned("REDIS_SENTINEL_PASSWORD")),
        prefix,
        username: values.owned("REDIS_USERNAME").or(server.username.clone()),
        password: values.owned("REDIS_PASSWORD").or(server.password.clone()),
        timeout: values.duration("REDIS_TIMEOUT").max(Duration::from_millis(50)),
        lease,
        renew,
        reserve,
        reap_period: values.duration("AGENTICORE_REAP_PERIOD").max(Duration::from_millis(50)),
        reap_grace: grace,
        sweep_period: values.duration("AGENTICORE_SWEEP_PERIOD").max(Duration::from_millis(50)),
        ..server
    }))
}

/// Host, login and database of a URL; the rest is empty.
fn parse(url: &str) -> Result<Redis, String> {
    let good = "must be redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss://… for TLS";
    let (tls, rest) = match url.split_once("://") {
        Some(("redis", rest)) => (false, rest),
        Some(("rediss", rest)) => (true, rest),
        _ => return Err(good.into()),
    };
    let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    if let Some(login) = login
        && !is_encoded(login)
    {
        return Err(
            "holds a user or a password with characters that a URL cannot hold: write them as %XX ('/' as %2F, \
                    '@' as %40, '%' as %25 and so on), or give the password as it is in REDIS_PASSWORD (Secret key \
                    `redis-password`) and leave it out of the URL"
                .into(),
        );
    }
    let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
    let database = match database {
        "" => 0,
        number => number.parse::<u16>().map_err(|_| format!("{good}: the database is a number"))?.into(),
    };
    let (host, port) = address(server).or_else(|| address(&format!("{server}:6379"))).ok_or(good)?;
    let decoded = |text: &str| {
        let text = text.replace('+', "%2B");
        let pair = format!("x={text}");
        form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).filter(|v| !v.is_empty())
    };
    let (username, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        Some((user, password)) => (decoded(user), decoded(password)),
        None => (None, None),
    };
    Ok(Redis {
        host,
        port,
        tls,
        username,
        password,
        database,
        ca_file: None,
        sentinels: Vec::new(),
        sentinel_master: String::new(),
        sentinel_login: (None, None),
        prefix: String::new(),
        timeout: Duration::ZERO,
        lease: Duration::ZERO,
        renew: Duration::ZERO,
        reserve: Duration::ZERO,
        reap_period: Duration::ZERO,
        reap_grace: Duration::ZERO,
        sweep_period: Duration::ZERO,
    })
}

/// User and password of a URL hold only what RFC 3986 allows there, the rest as `%XX`.
fn is_encoded(login: &str) -> bool {
    let bytes = login.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(byte),
    })
}

/// `HOST:PORT`, the host perhaps in brackets.
fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(host) => host,
        None if host.contains(':') => return None,
        None => host,
    };
    let is_good = !host.is_empty() && !host.contains(['/', ' ', '?', '#', '@']);
    is_good.then_some(())?;
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let plain = parse("redis://redis:6380/2").unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.tls, plain.database), ("redis", 6380, false, 2));
        let full = parse("rediss://me:p%40ss+w@h").unwrap();
        assert_eq!((full.host.as_str(), full.port, full.tls), ("h", 6379, true));
        assert_eq!((full.username.as_deref(), full.password.as_deref()), (Some("me"), Some("p@ss+w")));
        let printable: String = (b' '..=b'~').map(char::from).collect();
        let encoded: String = printable.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(parse(&format!("redis://u:{encoded}@h/1")).unwrap().password.as_deref(), Some(printable.as_str()));
        for raw in ["p/w", "p@w", "p#w", "p?w", "100%", "a%zz", "p w", "[x]"] {
            let Err(why) = parse(&format!("redis://:{raw}@h:6379/0")) else { panic!("{raw}") };
            assert!(why.contains("REDIS_PASSWORD") && !why.contains(raw), "{why}");
        }
        let only_password = parse("redis://:pw@[::1]:7/").unwrap();
        assert_eq!((only_password.host.as_str(), only_password.port), ("::1", 7));
        assert_eq!((only_password.username, only_password.password.as_deref()), (None, Some("pw")));
        for wrong in ["", "http://h", "redis://", "redis://h:99999", "redis://h/x", "redis://::1", "redis://h o:1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
