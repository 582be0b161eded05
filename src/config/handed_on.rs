//! What of the server's variables programs are given to find the network and the model, and which of all that is
//! secret.
//! Pure.

use super::{Config, login, providers, proxy, trust};
use std::collections::BTreeMap;

/// How a program finds the network: proxies, and whom it trusts. For everything that is started.
pub const NETWORK: [&str; 16] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_DIR",
    trust::NAMES[0],
    trust::NAMES[1],
    trust::NAMES[2],
    trust::NAMES[3],
    trust::NAMES[4],
    trust::NAMES[5],
    trust::NAMES[6],
];

/// What Claude finds its model with, and the network: names among `variables`.
pub fn of_the_model(variables: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let models = providers::MODELS.into_iter().chain([providers::HEADERS, "ANTHROPIC_BASE_URL"]);
    NETWORK.into_iter().chain(models).chain(providers::names(variables))
}

/// What a variable of this name holds may be a secret: it is one unless its name says what else it is.
fn may_be_secret(name: &str) -> bool {
    const PLAIN: [&str; 15] = [
        "REGION", "PATH", "DIR", "HOME", "LANG", "TZ", "HOST", "PORT", "LEVEL", "MODE", "MODEL", "ENV", "VERSION",
        "LOCALE", "SHELL",
    ];
    let last = name.rsplit('_').next().unwrap_or(name).to_ascii_uppercase();
    !PLAIN.contains(&last.as_str())
}

impl Config {
    /// Every secret among the settings and among what Claude is given, to be kept out of texts.
    pub fn secrets(&self) -> Vec<String> {
        // Of a proxy's address only the login is one.
        let ours = self
            .effective
            .iter()
            .filter(|e| e.is_secret && e.variable != "AGENTICORE_PROXY")
            .filter_map(|e| e.value.clone())
            .chain(self.webhooks.texts.clone());
        let claudes = login::CREDENTIALS.iter().filter_map(|name| self.variables.get(*name).cloned());
        let redis = self.redis.iter().filter_map(|redis| redis.password.clone());
        let passed_on = self.claude.extra_env.iter().filter(|name| may_be_secret(name));
        let passed_on = passed_on.filter_map(|name| self.variables.get(name).cloned());
        let proxy = self.effective.iter().find(|e| e.variable == "AGENTICORE_PROXY").and_then(|e| e.value.as_deref());
        let proxies: Vec<&str> = proxy::urls(&self.variables).into_iter().chain(proxy).collect();
        let of_network = providers::secrets(&self.variables).into_iter().chain(proxy::secrets(&proxies));
        let keys = self.api_keys.iter().chain(&self.keys_in_clear).cloned();
        let all = ours.chain(claudes).chain(keys).chain(redis).chain(passed_on).chain(of_network);
        all.chain(self.of_collectors()).collect()
    }

    /// What collectors of telemetry want to be sent along; Claude has it too.
    fn of_collectors(&self) -> Vec<String> {
        let is_headers = |name: &str| name.starts_with("OTEL_") && name.ends_with("_HEADERS");
        let texts = self.variables.iter().filter(|(name, _)| is_headers(name)).map(|(_, text)| text.as_str());
        let own = self.claude.otel.iter().map(|otel| otel.headers_text.as_str());
        let headers = texts.chain(own).flat_map(|text| text.split(',')).filter_map(|pair| pair.split_once('='));
        let logins = headers.filter(|(name, _)| providers::is_login(name));
        let values = logins.flat_map(|(_, value)| [value.trim().to_owned(), proxy::decoded(value.trim())]);
        values.filter(|value| value.len() >= providers::SHORTEST).flat_map(|value| providers::words(&value)).collect()
    }

    /// The certificates that a command trusts: the same, and AGENTICORE_CA_FILE.
    pub fn ca_files_of_client(&self) -> Vec<&str> {
        let Some(own) = self.client.ca_file.as_deref() else { return self.ca_file().into_iter().collect() };
        let public = match self.ca_file() {
            Some(path) => Some(path),
            None => trust::public_file(),
        };
        public.into_iter().chain([own]).collect()
    }

    /// The certificates that our own clients trust, if not those that were built in.
    pub fn ca_file(&self) -> Option<&str> {
        self.variables.get("SSL_CERT_FILE").map(String::as_str).filter(|path| !path.is_empty())
    }

    /// The proxy that `url` is reached through.
    pub fn proxy_to(&self, url: &str) -> Option<String> {
        proxy::of_url(&self.variables, url)
    }
}
