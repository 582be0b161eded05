//! A GitHub App's installation token: made with a signed JWT, kept, renewed before it expires.

use super::Error;
use crate::config::{GitHubApp, PrivateKey};
use crate::job::Time;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use std::sync::{Mutex, PoisonError};

/// GitHub accepts a JWT of at most ten minutes, and its clock may be behind ours.
const JWT_SECONDS: i64 = 540;
const CLOCK_SKEW_SECONDS: i64 = 60;
/// A token is renewed this long before its end, so that a push that begins now can end with it.
const RENEW_BEFORE_MS: i64 = 10 * 60 * 1000;

pub struct AppTokens {
    app: GitHubApp,
    current: Mutex<Option<(String, Time)>>,
}

impl AppTokens {
    pub fn new(app: GitHubApp) -> Self {
        Self { app, current: Mutex::new(None) }
    }

    /// The token, asked for through `request` (path and JWT → token and end) if there is none that
    /// lasts.
    pub fn token(&self, request: impl FnOnce(&str, &str) -> Result<(String, Time), Error>) -> Result<String, Error> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Time::now();
        if let Some((token, ends)) = &*current
            && ends.since(now) > RENEW_BEFORE_MS
        {
            return Ok(token.clone());
        }
        let jwt = self.jwt(now).map_err(Error::Final)?;
        let (token, ends) = request(&format!("/app/installations/{}/access_tokens", self.app.installation), &jwt)?;
        *current = Some((token.clone(), ends));
        Ok(token)
    }

    fn jwt(&self, now: Time) -> Result<String, String> {
        let key = key_pair(&self.app.private_key)?;
        let seconds = now.0 / 1000;
        let claims = json!({
            "iat": seconds - CLOCK_SKEW_SECONDS,
            "exp": seconds + JWT_SECONDS,
            "iss": self.app.id,
        });
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(br#"{"alg":"RS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| "the GitHub App's private key cannot sign".to_owned())?;
        Ok(format!("{signed}.{}", encode(&signature)))
    }
}

fn key_pair(key: &PrivateKey) -> Result<RsaKeyPair, String> {
    let pem = match key {
        // An environment variable often holds its line ends as the two characters \n.
        PrivateKey::Pem(text) => text.replace("\\n", "\n").into_bytes(),
        PrivateKey::File(path) => std::fs::read(path)
            .map_err(|error| format!("GITHUB_APP_PRIVATE_KEY_PATH: cannot read {}: {error}", path.display()))?,
        PrivateKey::Base64(text) => {
            let packed: String = text.split_whitespace().collect();
            STANDARD.decode(packed).map_err(|_| "GITHUB_APP_PRIVATE_KEY_BASE64 is not base64".to_owned())?
        }
    };
    let wrong = || "the GitHub App's private key is no RSA key in PEM form".to_owned();
    match PrivateKeyDer::from_pem_slice(&pem).map_err(|_| wrong())? {
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).map_err(|_| wrong()),
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// The key can be read: found out at start, not at the first job's end.
pub fn check(app: &GitHubApp) -> Result<(), String> {
    key_pair(&app.private_key).map(drop)
}
