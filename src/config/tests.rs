//! The settings, as they come out of environment, file and defaults.

use super::*;

fn config(pairs: &[(&str, &str)]) -> Result<Config, Error> {
    Config::from(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
}

fn home_with(yaml: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".agenticore")).unwrap();
    std::fs::write(home.path().join(".agenticore/config.yml"), yaml).unwrap();
    home
}

#[test]
fn defaults_hold_for_every_row() {
    let config = config(&[("HOME", "/home/u")]).unwrap();
    assert_eq!((config.port, config.max_parallel_jobs), (8200, 3));
    assert_eq!(config.jobs_dir, Path::new("/home/u/.agenticore/jobs"));
    assert_eq!(config.job_dirs_root, Path::new("/tmp/agenticore-jobs"));
    assert!(config.effective().iter().all(|e| e.source == "default"));
}

#[test]
fn environment_wins_over_file_wins_over_default() {
    let home = home_with("server:\n  port: 9000\n  host: 0.0.0.0\nrepos:\n  max_parallel_jobs: 7\n");
    let home = home.path().to_str().unwrap();
    let config = config(&[("HOME", home), ("AGENTICORE_PORT", "9001"), ("AGENTICORE_MAX_PARALLEL_JOBS", " ")]).unwrap();
    assert_eq!((config.port, config.max_parallel_jobs), (9001, 7));
    assert_eq!(config.server_url(), "http://127.0.0.1:9001");
    let source = |v: &str| config.effective().iter().find(|e| e.variable == v).unwrap().source.clone();
    assert_eq!(source("AGENTICORE_PORT"), "environment (AGENTICORE_PORT)");
    assert_eq!(source("AGENTICORE_HOST"), "config.yml (server.host)");
}

#[test]
fn a_value_that_does_not_parse_names_variable_value_and_what_is_allowed() {
    let cases = [
        ("AGENTICORE_PORT", "http", "a port"),
        ("AGENTICORE_MAX_PARALLEL_JOBS", "-1", "from 0 to 256"),
        ("AGENTICORE_JOB_TTL", "1d", "whole number"),
        ("AGENTICORE_STALL_TIMEOUT", "-3", "seconds"),
        ("AGENTICORE_ALLOW_LOCAL_REPOS", "maybe", "true or false"),
        ("AGENTICORE_JOBS_DIR", "jobs", "absolute path"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http", "http/protobuf"),
        ("GITHUB_API_URL", "ftp://x", "https://"),
    ];
    for (variable, value, allowed) in cases {
        let text = config(&[("HOME", "/h"), (variable, value)]).unwrap_err().to_string();
        assert!(text.contains(variable) && text.contains(value) && text.contains(allowed), "{text}");
    }
    let home = home_with("server: {port: [1");
    let text = config(&[("HOME", home.path().to_str().unwrap())]).unwrap_err().to_string();
    assert!(text.contains("config.yml") && text.contains("YAML"), "{text}");
}

#[test]
fn secrets_are_masked_and_listed_for_redaction() {
    let config = config(&[("HOME", "/h"), ("GITHUB_TOKEN", "ghp_secret"), ("AGENTICORE_API_KEYS", "k1, k2")]).unwrap();
    assert!(config.effective().iter().all(|e| !e.shown().contains("ghp_") && !e.shown().contains("k1")));
    assert!(config.secrets().contains(&"ghp_secret".to_owned()) && config.secrets().contains(&"k2".to_owned()));
}

#[test]
fn what_agents_must_not_have_cannot_be_named() {
    for name in ["REDIS_URL", "GITHUB_TOKEN", "GITHUB_APP_PRIVATE_KEY", "GH_TOKEN"] {
        let error = config(&[("HOME", "/h"), ("AGENTICORE_AGENT_ENV", name)]).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn what_kubernetes_sets_for_a_service_is_no_setting() {
    let config = config(&[
        ("HOME", "/h"),
        ("AGENTICORE_PORT", "tcp://10.96.12.7:8200"),
        ("AGENTICORE_SERVICE_HOST", "10.96.12.7"),
        ("AGENTICORE_SERVICE_PORT", "8200"),
        ("AGENTICORE_PORT_8200_TCP", "tcp://10.96.12.7:8200"),
    ])
    .unwrap();
    assert_eq!(config.port, 8200);
    assert!(config.effective().iter().all(|e| e.source == "default"));
}

#[test]
fn the_store_is_what_is_asked_for() {
    let with = |more: &[(&str, &str)]| config(&[&[("HOME", "/h")], more].concat()).unwrap();
    let redis = ("REDIS_URL", "redis://r");
    let is = |config: Config| (config.redis.is_some(), config.wants_redis);
    assert_eq!(is(with(&[])), (false, false));
    assert_eq!(is(with(&[redis])), (true, false));
    assert_eq!(is(with(&[redis, ("AGENTICORE_STORE", "embedded")])), (false, false));
    assert_eq!(is(with(&[redis, ("AGENTICORE_STORE", "redis")])), (true, true));
    assert_eq!(is(with(&[("AGENTICORE_STORE", "redis")])), (false, true));
}

#[test]
fn profiles_of_the_shared_volume_come_before_the_users_own() {
    let config =
        config(&[("HOME", "/h"), ("AGENTICORE_SHARED_FS_ROOT", "/shared"), ("AGENTICORE_AGENTIHOOKS_PATH", "/hooks")])
            .unwrap();
    let expected = ["/hooks/profiles", "/shared/profiles", "/h/.agenticore/profiles"];
    assert_eq!(config.profile_dirs, expected.map(PathBuf::from));
}

#[test]
fn half_a_github_app_is_refused() {
    let error = config(&[("HOME", "/h"), ("GITHUB_APP_ID", "1")]).unwrap_err().to_string();
    assert!(error.contains("GITHUB_APP_INSTALLATION_ID"), "{error}");
}

#[test]
fn without_a_home_the_sentence_says_what_to_set() {
    let error = config(&[]).unwrap_err().to_string();
    assert!(error.contains("HOME is not set"), "{error}");
}

#[test]
fn clients_find_a_server_at_any_address() {
    for (host, url) in [
        ("0.0.0.0", "http://127.0.0.1:8200"),
        ("::1", "http://[::1]:8200"),
        ("[::1]", "http://[::1]:8200"),
        ("[::]", "http://[::1]:8200"),
        ("::", "http://[::1]:8200"),
        ("box", "http://box:8200"),
    ] {
        let variables = [("HOME", "/nonexistent"), ("AGENTICORE_HOST", host)];
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(Config::from(variables).unwrap().server_url(), url);
    }
}
