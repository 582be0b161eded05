//! `agenticore config`: the settings as they came out.

use crate::config::Config;
use serde_json::json;

pub fn text(config: &Config, as_json: bool) -> String {
    if as_json {
        let shown: Vec<_> = config
            .effective()
            .iter()
            .map(|e| {
                let value = e.value.as_ref().map(|_| e.shown());
                json!({ "variable": e.variable, "key": e.key, "value": value, "source": e.source })
            })
            .collect();
        return format!("{:#}\n", json!(shown));
    }
    let mut text = String::new();
    for e in config.effective() {
        text.push_str(&format!("{:36} {}\n{:36}   {}; from {}\n", e.variable, e.shown(), "", e.help, e.source));
    }
    text
}
