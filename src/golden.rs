//! What unit tests compare with what was written down: `tests/it/golden/`. `WRITE_GOLDEN=1` writes it anew.

use std::path::Path;

pub fn check(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == found, "{} is\n{known}\nbut should be\n{found}\nWRITE_GOLDEN=1 writes it", path.display());
}
