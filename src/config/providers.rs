//! The clouds that Claude can be asked at, and the variables that it reads for each: what is passed on to an agent
//! once the cloud's switch is on, and which of it is secret. Found by experiment with the real CLI
//! (`tests/it/providers.rs`).
//! Pure.

use std::collections::BTreeMap;

pub struct Provider {
    /// Set to 1 or true, Claude asks this one.
    switch: &'static str,
    pub name: &'static str,
    plain: &'static [&'static [&'static str]],
    secret: &'static [&'static str],
}

const AWS: &[&str] = &[
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_BEDROCK",
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_EC2_METADATA_DISABLED",
];
const AWS_SECRET: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
];

static PROVIDERS: [Provider; 4] = [
    Provider {
        switch: "CLAUDE_CODE_USE_BEDROCK",
        name: "Amazon Bedrock",
        plain: &[
            AWS,
            &[
                "ANTHROPIC_BEDROCK_BASE_URL",
                "ANTHROPIC_BEDROCK_REGION_PREFIX",
                "ANTHROPIC_BEDROCK_SERVICE_TIER",
                "ANTHROPIC_SMALL_FAST_MODEL_AWS_REGION",
                "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
            ],
        ],
        secret: AWS_SECRET,
    },
    Provider {
        switch: "CLAUDE_CODE_USE_MANTLE",
        name: "Amazon Bedrock (Mantle)",
        plain: &[AWS, &["ANTHROPIC_BEDROCK_MANTLE_BASE_URL", "CLAUDE_CODE_SKIP_MANTLE_AUTH"]],
        secret: AWS_SECRET,
    },
    Provider {
        switch: "CLAUDE_CODE_USE_VERTEX",
        name: "Google Vertex AI",
        plain: &[&[
            "CLOUD_ML_REGION",
            "ANTHROPIC_VERTEX_PROJECT_ID",
            "ANTHROPIC_VERTEX_BASE_URL",
            "CLAUDE_CODE_SKIP_VERTEX_AUTH",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_CLOUD_PROJECT",
            "GCLOUD_PROJECT",
            "GOOGLE_CLOUD_QUOTA_PROJECT",
            "GCE_METADATA_HOST",
            "GCE_METADATA_IP",
        ]],
        secret: &["GOOGLE_OAUTH_ACCESS_TOKEN"],
    },
    Provider {
        switch: "CLAUDE_CODE_USE_FOUNDRY",
        name: "Microsoft Foundry",
        plain: &[&[
            "ANTHROPIC_FOUNDRY_RESOURCE",
            "ANTHROPIC_FOUNDRY_BASE_URL",
            "CLAUDE_CODE_SKIP_FOUNDRY_AUTH",
            "AZURE_TENANT_ID",
            "AZURE_CLIENT_ID",
            "AZURE_FEDERATED_TOKEN_FILE",
            "AZURE_AUTHORITY_HOST",
            "AZURE_CLIENT_CERTIFICATE_PATH",
            "AZURE_TOKEN_CREDENTIALS",
        ]],
        secret: &[
            "ANTHROPIC_FOUNDRY_API_KEY",
            "ANTHROPIC_FOUNDRY_AUTH_TOKEN",
            "AZURE_CLIENT_SECRET",
            "AZURE_CLIENT_CERTIFICATE_PASSWORD",
        ],
    },
];

/// Vertex has one such variable for each model.
const REGION_OF_MODEL: &str = "VERTEX_REGION_CLAUDE_";

/// What a provider or a gateway calls its models, and what a gateway wants to be told; passed on in any case.
pub const MODELS: [&str; 9] = [
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_DEFAULT_FABLE_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_CUSTOM_MODEL_OPTION",
    "ANTHROPIC_BETAS",
];
/// `Name: value`, a line each. A gateway's key may be among them.
pub const HEADERS: &str = "ANTHROPIC_CUSTOM_HEADERS";

/// Those whose switch is on.
pub fn in_use(variables: &BTreeMap<String, String>) -> impl Iterator<Item = &'static Provider> {
    // As Claude reads it.
    let is_on = |name: &str| {
        let value = variables.get(name).map(|value| value.trim().to_ascii_lowercase()).unwrap_or_default();
        matches!(value.as_str(), "1" | "true" | "yes" | "on")
    };
    PROVIDERS.iter().filter(move |provider| is_on(provider.switch))
}

/// The names that an agent is given for the providers in use.
pub fn names(variables: &BTreeMap<String, String>) -> Vec<&str> {
    let mut names = Vec::new();
    for provider in in_use(variables) {
        names.push(provider.switch);
        names.extend(provider.plain.iter().flat_map(|names| names.iter()).chain(provider.secret));
        if provider.switch == "CLAUDE_CODE_USE_VERTEX" {
            names.extend(variables.keys().map(String::as_str).filter(|name| name.starts_with(REGION_OF_MODEL)));
        }
    }
    names
}

/// What must appear in no text.
pub fn secrets(variables: &BTreeMap<String, String>) -> Vec<String> {
    let of_providers = in_use(variables).flat_map(|provider| provider.secret).filter_map(|name| variables.get(*name));
    let headers = variables.get(HEADERS).map(String::as_str).unwrap_or_default();
    let of_headers = headers.lines().filter_map(|line| line.split_once(':'));
    let of_headers = of_headers.filter(|(name, _)| is_login(name)).flat_map(|(_, value)| words(value));
    of_providers.cloned().chain(of_headers).collect()
}

/// A header's value, and each long word of it alone: `Bearer TOKEN`, `session=TOKEN; other=…`.
pub fn words(value: &str) -> Vec<String> {
    let words = value.split([' ', ';', '=', ',']).filter(|word| word.len() >= SHORTEST);
    words.chain([value.trim()]).map(str::to_owned).collect()
}

/// Whether a header of this name lets somebody in. A team's name or an environment's is no secret.
pub fn is_login(header: &str) -> bool {
    const PARTS: [&str; 8] = ["auth", "key", "token", "secret", "cookie", "password", "credential", "signature"];
    let header = header.to_ascii_lowercase();
    PARTS.iter().any(|part| header.contains(part))
}

/// Words of a header that are shorter are no secrets: `Bearer`, `session`.
pub const SHORTEST: usize = 8;

/// The Python program's users gave headers as a JSON object; Claude takes lines.
pub fn with_header_lines(mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    if let Some(headers) = variables.get_mut(HEADERS)
        && let Ok(object) = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(headers)
    {
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let lines: Vec<_> = object.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
        *headers = lines.join("\n");
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn only_what_the_provider_in_use_needs_is_passed_on_and_its_secrets_are_known() {
        let keys =
            [("AWS_SECRET_ACCESS_KEY", "s3cret"), ("AWS_REGION", "eu-west-1"), ("VERTEX_REGION_CLAUDE_5_OPUS", "x")];
        assert!(names(&variables(&keys)).is_empty() && secrets(&variables(&keys)).is_empty());
        let off = variables(&[&keys[..], &[("CLAUDE_CODE_USE_BEDROCK", "False")]].concat());
        assert!(names(&off).is_empty());
        let bedrock = variables(&[&keys[..], &[("CLAUDE_CODE_USE_BEDROCK", "1")]].concat());
        assert!(names(&bedrock).contains(&"AWS_SECRET_ACCESS_KEY") && secrets(&bedrock) == ["s3cret"]);
        assert!(!names(&bedrock).contains(&"VERTEX_REGION_CLAUDE_5_OPUS"));
        let vertex = variables(&[&keys[..], &[("CLAUDE_CODE_USE_VERTEX", "true")]].concat());
        assert!(names(&vertex).contains(&"VERTEX_REGION_CLAUDE_5_OPUS") && !names(&vertex).contains(&"AWS_REGION"));
    }

    #[test]
    fn headers_in_json_become_lines_and_are_secret() {
        let given =
            variables(&[(HEADERS, r#"{"Authorization": "Bearer tokentoken1", "X-Team": "payments: 1", "X-Try": 3}"#)]);
        let lines = with_header_lines(given);
        assert_eq!(lines[HEADERS], "Authorization: Bearer tokentoken1\nX-Team: payments: 1\nX-Try: 3");
        assert_eq!(secrets(&lines), ["tokentoken1", "Bearer tokentoken1"]);
        assert_eq!(with_header_lines(variables(&[(HEADERS, "A: b")]))[HEADERS], "A: b");
    }
}
