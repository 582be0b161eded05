//! Who may come in: the API keys. Pure.

pub struct Guard(Vec<String>);

impl Guard {
    pub fn new(keys: Vec<String>) -> Self {
        Self(keys)
    }

    pub fn wants_keys(&self) -> bool {
        !self.0.is_empty()
    }

    /// Without any key set, everybody may. Compares in constant time per key.
    pub fn admits(&self, offered: &[&str]) -> bool {
        self.0.is_empty() || self.0.iter().any(|key| offered.iter().any(|offer| same(key.as_bytes(), offer.as_bytes())))
    }
}

fn same(key: &[u8], offer: &[u8]) -> bool {
    let differences =
        key.iter().enumerate().fold(0, |sum, (at, byte)| sum | (byte ^ offer.get(at).copied().unwrap_or(0)));
    differences == 0 && key.len() == offer.len()
}

#[cfg(test)]
mod tests {
    use super::Guard;

    #[test]
    fn a_key_is_wanted_once_there_are_keys() {
        assert!(Guard::new(vec![]).admits(&[]));
        let keys = Guard::new(vec!["one".into(), "two".into()]);
        assert!(keys.admits(&["two"]) && keys.admits(&["x", "one"]));
        assert!(!keys.admits(&[]) && !keys.admits(&["on"]) && !keys.admits(&["onee"]) && !keys.admits(&[""]));
    }
}
