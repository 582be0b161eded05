//! Where telemetry goes: Claude's, and this server's own traces. Pure.

#[derive(Clone, Debug)]
pub struct Otel {
    pub endpoint: String,
    pub protocol: String,
    pub log_prompts: bool,
    pub log_tool_details: bool,
    /// What the collector wants to be sent along, `NAME=VALUE,…`.
    pub headers_text: String,
}

impl Otel {
    /// NAME and VALUE of each; values are percent-encoded in the text.
    pub fn headers(&self) -> Vec<(String, String)> {
        let pairs = self.headers_text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.trim().to_owned(), super::proxy::decoded(value.trim()))).collect()
    }

    /// This server sends traces over HTTP alone.
    pub fn has_own_traces(&self) -> bool {
        self.protocol != "grpc"
    }
}
