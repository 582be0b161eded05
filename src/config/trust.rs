//! Certificates of a private authority (`AGENTICORE_CA_FILE`), beside the public ones: one file with both, which every
//! program that is started, and every client of ours, is pointed to.
//!
//! Never takes a public certificate away.

use super::Error;
use ring::digest;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use ureq::tls::{PemItem, parse_pem};

/// Where distributions keep the public ones, if SSL_CERT_FILE does not say.
const PUBLIC: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// By these names programs find certificates: OpenSSL and Claude, Node, git, curl, Python's requests and pip, AWS.
pub const NAMES: [&str; 7] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
];

/// The variables with all of [`NAMES`] pointing to the public certificates and those of `own_file`, in a file below
/// `own_dir`. One of the names that is set for one program already stays, but for SSL_CERT_FILE, which says what the
/// public ones are.
pub fn with_authority(
    mut variables: BTreeMap<String, String>,
    own_file: &Path,
    own_dir: Option<&Path>,
) -> Result<(BTreeMap<String, String>, PathBuf), Error> {
    let wrong = |why: String| Error::Inconsistent(format!("AGENTICORE_CA_FILE {why}"));
    let own = certificates(own_file).map_err(wrong)?;
    let given = variables.get("SSL_CERT_FILE").filter(|path| !path.trim().is_empty());
    let public = given.map(PathBuf::from).or_else(|| public_file().map(PathBuf::from));
    let public =
        public.map(|path| fs::read(&path).map_err(|error| wrong(format!("goes beside {}: {error}", path.display()))));
    let all = [public.transpose()?.unwrap_or_default(), b"\n".to_vec(), own].concat();
    let dir = own_dir.ok_or_else(|| wrong("needs HOME to be set, to a directory that can be written".into()))?;
    let path = write(&dir.join("ca"), &all).map_err(|error| {
        wrong(format!("cannot be joined with the public certificates below {}: {error}", dir.display()))
    })?;
    for name in NAMES {
        let variable = variables.entry(name.to_owned()).or_default();
        if name == "SSL_CERT_FILE" || variable.trim().is_empty() {
            *variable = path.display().to_string();
        }
    }
    Ok((variables, path))
}

/// Where this machine has the public ones.
pub fn public_file() -> Option<&'static str> {
    PUBLIC.into_iter().find(|path| Path::new(path).is_file())
}

/// The file's bytes, if all that it holds is certificates that are whole: one that is not would spoil those beside it.
fn certificates(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("PRIVATE KEY-----") {
        return Err(format!("{shown} holds a private key; give it the certificates alone"));
    }
    let begun = text.matches("-----BEGIN ").count();
    if begun == 0 {
        return Err(format!("{shown} holds no certificate; expected PEM (-----BEGIN CERTIFICATE-----)"));
    }
    let items = parse_pem(&bytes).map(|item| matches!(item, Ok(PemItem::Certificate(_))));
    let whole = items.filter(|is_whole| *is_whole).count();
    if whole != begun || text.matches("-----END ").count() != begun {
        return Err(format!("{shown} is damaged: expected {begun} whole certificates, found {whole}; copy it again"));
    }
    Ok(bytes)
}

/// The file is called by its contents: processes that write it at once write the same.
fn write(dir: &Path, contents: &[u8]) -> io::Result<PathBuf> {
    let digest = digest::digest(&digest::SHA256, contents);
    let name: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let path = dir.join(format!("{name}.pem"));
    if fs::read(&path).is_ok_and(|there| there == contents) {
        return Ok(path);
    }
    fs::create_dir_all(dir)?;
    let new = dir.join(format!(".{name}.{}", std::process::id()));
    fs::write(&new, contents)?;
    fs::rename(&new, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_one_comes_beside_the_public_ones() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let certificate = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        let half = format!("-----BEGIN CERTIFICATE-----\nhalf\n\n{}", certificate("half"));
        let (own, public) = (file("own.pem", &certificate("b3du")), file("public.pem", &certificate("cHVi")));
        let variables: BTreeMap<_, _> = [("SSL_CERT_FILE", public.to_str().unwrap()), ("PIP_CERT", "/pip.pem")]
            .map(|(n, v)| (n.into(), v.into()))
            .into();
        let home = dir.path().join("home");
        let (found, path) = with_authority(variables.clone(), &own, Some(&home)).unwrap();
        let all = fs::read_to_string(&path).unwrap();
        assert!(all.contains("b3du") && all.contains("cHVi"));
        assert_eq!(
            (found["SSL_CERT_FILE"].as_str(), found["GIT_SSL_CAINFO"].as_str()),
            (path.to_str().unwrap(), path.to_str().unwrap())
        );
        assert_eq!(found["PIP_CERT"], "/pip.pem", "a program's own setting stays");
        assert_eq!(with_authority(variables.clone(), &own, Some(&home)).unwrap().1, path);
        for (text, part) in [
            ("", "holds no certificate"),
            (&*half, "is damaged"),
            (&*format!("{}-----BEGIN PRIVATE KEY-----", certificate("x")), "private key"),
        ] {
            let error =
                with_authority(variables.clone(), &file("bad.pem", text), Some(&home)).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(with_authority(variables, &own, None).err().unwrap().to_string().contains("HOME"));
    }
}
