//! Whom our own HTTP clients trust: the certificates of a file, or those that were built in.

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The certificates of `ca_file` (SSL_CERT_FILE) instead of the built-in ones. The error is a sentence.
pub fn trusting(ca_file: &str) -> Result<TlsConfig, String> {
    let pem = std::fs::read(ca_file).map_err(|error| format!("SSL_CERT_FILE: cannot read {ca_file}: {error}"))?;
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let roots: Vec<Certificate<'static>> = certificates.collect();
    if roots.is_empty() {
        return Err(format!("SSL_CERT_FILE: {ca_file} holds no certificate"));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::from(roots)).build())
}
