//! Writes a profile into a job's own directory: `.claude/` (Claude's configuration directory) and
//! `.mcp.json`. Files of a child replace its parent's; MCP servers are merged one by one.

use super::Profile;
use crate::process::sys;
use crate::workspace::{regular_file, remove};
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The most of a file that somebody wrote by hand.
pub const FILE_LIMIT: u64 = 1 << 20;

pub struct Materialized {
    /// `CLAUDE_CONFIG_DIR`
    pub config_dir: PathBuf,
    pub mcp_file: PathBuf,
}

/// Makes `job_dir` anew from `profile`. `more_servers`: `.mcp.json` files whose servers come on top,
/// the last one winning. `stays`: what else an earlier attempt left there.
pub fn write(profile: &Profile, job_dir: &Path, stays: bool, more_servers: &[&Path]) -> Result<Materialized, String> {
    let config_dir = job_dir.join(".claude");
    let mcp_file = job_dir.join(".mcp.json");
    let fail = |error: io::Error| format!("cannot write the job's directory {}: {error}", job_dir.display());
    // What an earlier attempt left would be read by this one, or be a trap for it.
    match stays {
        true => remove::tree(&config_dir).and_then(|()| remove::tree(&mcp_file)).map_err(fail)?,
        false => remove::tree(job_dir).map_err(fail)?,
    }
    let mode = if sys::shares_by_group() { 0o770 } else { 0o700 };
    fs::DirBuilder::new().recursive(true).mode(mode).create(job_dir).map_err(fail)?;
    fs::create_dir(&config_dir).map_err(fail)?;
    for directory in &profile.directories {
        copy_tree(&directory.join(".claude"), &config_dir).map_err(fail)?;
    }
    let mut servers = Map::new();
    let of_profile = profile.directories.iter().map(|directory| directory.join(".mcp.json"));
    for file in of_profile.filter(|file| file.exists()).chain(more_servers.iter().map(PathBuf::from)) {
        servers.extend(read_servers(&file)?);
    }
    let text = serde_json::to_vec_pretty(&json!({ "mcpServers": servers })).unwrap_or_default();
    fs::write(&mcp_file, text).map_err(fail)?;
    Ok(Materialized { config_dir, mcp_file })
}

/// The `mcpServers` of a `.mcp.json`.
pub fn read_servers(file: &Path) -> Result<Map<String, Value>, String> {
    let text = regular_file::read_owned(file, FILE_LIMIT)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let tree: Value =
        serde_json::from_slice(&text).map_err(|error| format!("{} is not valid JSON: {error}", file.display()))?;
    match tree.get("mcpServers") {
        Some(Value::Object(servers)) => Ok(servers.clone()),
        None if tree.is_object() => Ok(Map::new()),
        _ => Err(format!("{} must hold an object, with `mcpServers` as one in it", file.display())),
    }
}

impl Profile {
    /// A file that a flag names: absolute, or beside the profile.yml of whichever layer has it.
    pub fn file(&self, name: &str) -> PathBuf {
        let beside = self.directories.iter().rev().map(|directory| directory.join(name)).find(|path| path.is_file());
        beside.unwrap_or_else(|| PathBuf::from(name))
    }
}

/// Copies files and directories; links are followed, and what leads nowhere is left out.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        // Links are followed: a profile is its owner's own.
        match fs::metadata(entry.path()) {
            Ok(meta) if meta.is_dir() => copy_tree(&entry.path(), &target)?,
            Ok(_) => drop(fs::copy(entry.path(), target)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profiles;
    use std::time::Duration;

    #[test]
    fn files_and_servers_are_merged_child_on_top() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("p/parent/profile.yml", "");
        put("p/parent/.claude/CLAUDE.md", "parent");
        put("p/parent/.claude/agents/a.md", "agent");
        put("p/parent/.mcp.json", r#"{"mcpServers":{"a":{"command":"1"},"b":{"command":"1"}}}"#);
        put("p/child/profile.yml", "extends: parent");
        put("p/child/.claude/CLAUDE.md", "child");
        put("p/child/.mcp.json", r#"{"mcpServers":{"b":{"command":"2"}}}"#);
        put("extra.json", r#"{"mcpServers":{"c":{"command":"3"}}}"#);
        let profile = Profiles::new(vec![dir.path().join("p")], Duration::ZERO).find("child").unwrap();
        let job = dir.path().join("job");
        fs::create_dir_all(job.join(".claude")).unwrap();
        fs::write(job.join(".claude/stale"), "").unwrap();
        let made = write(&profile, &job, false, &[&dir.path().join("extra.json")]).unwrap();
        assert_eq!(fs::read_to_string(made.config_dir.join("CLAUDE.md")).unwrap(), "child");
        assert_eq!(fs::read_to_string(made.config_dir.join("agents/a.md")).unwrap(), "agent");
        assert!(!made.config_dir.join("stale").exists());
        let servers = read_servers(&made.mcp_file).unwrap();
        let commands: Vec<_> = ["a", "b", "c"].iter().map(|s| servers[*s]["command"].as_str().unwrap()).collect();
        assert_eq!(commands, ["1", "2", "3"]);
    }

    #[test]
    fn a_file_that_is_no_mcp_configuration_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        for (text, why) in [("{", "not valid JSON"), (r#"{"mcpServers":[]}"#, "mcpServers"), ("[]", "mcpServers")] {
            fs::write(&path, text).unwrap();
            assert!(read_servers(&path).unwrap_err().contains(why), "{text}");
        }
        assert!(read_servers(&dir.path().join("none")).unwrap_err().contains("none"));
    }
}
