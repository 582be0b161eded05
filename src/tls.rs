//! Whom our own HTTP clients trust: the certificates of a file, or those that were built in.

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The certificates of these files (SSL_CERT_FILE) instead of the built-in ones. The error is a sentence.
pub fn trusting(ca_files: &[&str]) -> Result<TlsConfig, String> {
    let mut roots: Vec<Certificate<'static>> = Vec::new();
    for path in ca_files {
        let pem = std::fs::read(path).map_err(|error| format!("SSL_CERT_FILE: cannot read {path}: {error}"))?;
        let before = roots.len();
        roots.extend(parse_pem(&pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        }));
        if roots.len() == before {
            return Err(format!("SSL_CERT_FILE: {path} holds no certificate"));
        }
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::from(roots)).build())
}
