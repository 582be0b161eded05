//! Execution profiles: where they are found, what they say, what becomes of `extends`.
//!
//! Reads profile directories; writes only through `materialize`, and only into a job's own
//! directory, never into a repository.

mod flags;
pub mod materialize;
pub mod parse;

pub use flags::Flags;

use crate::job::Overrides;
use crate::suggest;
use crate::workspace::regular_file;
use crate::workspace::submodules::Wanted;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The built-in profile whose agent is this binary: see `agent/self_test.rs`.
pub const SELF_TEST: &str = "self-test";

/// So that a bare install works.
const BUILT_IN: &[(&str, &str)] = &[
    ("coding", include_str!("builtin/coding.yml")),
    ("review", include_str!("builtin/review.yml")),
    ("plan", include_str!("builtin/plan.yml")),
    (SELF_TEST, include_str!("builtin/self-test.yml")),
];

pub fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|(known, _)| *known == name)
}

/// Where profiles come from: later directories win on a name.
#[derive(Clone)]
pub struct Profiles {
    directories: Vec<PathBuf>,
    default_timeout: Duration,
    /// A directory whose files are below those of every profile, once it is there.
    lowest: Option<PathBuf>,
}

/// One `profile.yml`, as it stands there.
#[derive(Clone, Default, Debug)]
pub struct Layer {
    name: String,
    description: Option<String>,
    extends: Option<String>,
    auto_pr: Option<bool>,
    publish_conflicts: Option<bool>,
    submodules: Option<Wanted>,
    trust_repo: Option<bool>,
    github_token: Option<bool>,
    worktree: Option<bool>,
    timeout: Option<Duration>,
    flags: Flags,
    /// Keys that were probably meant as others, a sentence each.
    typos: Vec<String>,
    /// Its directory; None for a built-in one.
    directory: Option<PathBuf>,
}

/// A profile with everything it extends merged in.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    pub description: String,
    pub extends: Option<String>,
    /// Succeeded work is pushed and becomes a pull request.
    pub auto_pr: bool,
    /// Also with conflicts that the agent left unresolved.
    pub publish_conflicts: bool,
    /// Which submodules are checked out for the agent.
    pub submodules: Wanted,
    /// The repository's own hooks, settings and MCP servers may run.
    pub trust_repo: bool,
    /// The agent gets the server's GitHub token.
    pub github_token: bool,
    /// A branch of its own; without it the checkout is for reading, on a detached HEAD.
    pub worktree: bool,
    pub timeout: Duration,
    /// The agent is this binary instead of Claude.
    pub is_self_test: bool,
    pub flags: Flags,
    /// The directories to take files from, parents first.
    directories: Vec<PathBuf>,
}

impl Profile {
    /// The same for a job that has something otherwise.
    pub fn with(mut self, overrides: &Overrides) -> Self {
        let model = overrides.model.as_ref().map(|model| ("model", Value::from(model.as_str())));
        let turns = overrides.max_turns.map(|turns| ("max_turns", Value::from(turns)));
        for (name, value) in model.into_iter().chain(turns) {
            // Neither is one that the runner sets itself.
            let _ = self.flags.set(name, value);
        }
        self.timeout = overrides.timeout.map_or(self.timeout, Duration::from_secs);
        self
    }
}

#[derive(Debug, PartialEq)]
pub enum Error {
    Unknown { name: String, known: Vec<String> },
    Cycle(Vec<String>),
    Broken { path: String, why: String },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Unknown { name, known } => {
                let meant = suggest::did_you_mean(name, known.iter().map(String::as_str));
                write!(f, "unknown profile `{name}`: known are {}{meant}", known.join(", "))
            }
            Error::Cycle(names) => write!(f, "profiles extend one another in a circle: {}", names.join(" → ")),
            Error::Broken { path, why } => write!(f, "{path}: {why}"),
        }
    }
}

impl Profiles {
    pub fn new(directories: Vec<PathBuf>, default_timeout: Duration) -> Self {
        Self { directories, default_timeout, lowest: None }
    }

    /// With the files of this directory below those of every profile.
    pub fn above(self, lowest: Option<PathBuf>) -> Self {
        Self { lowest, ..self }
    }

    /// All that can be read, by name, and what is wrong with the others.
    pub fn all(&self) -> (Vec<Profile>, Vec<Error>) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let mut sources = self.sources();
        let names: Vec<String> = sources.known.keys().cloned().collect();
        for name in names {
            match self.resolve(&name, &mut sources) {
                Ok(profile) => good.push(profile),
                Err(error) => bad.push(error),
            }
        }
        (good, bad)
    }

    /// What in them was probably meant otherwise, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let sources = self.sources();
        let layers = sources.known.iter().filter_map(|(name, source)| read(name, source.as_deref()).ok());
        let typos = layers.flat_map(|layer| {
            let path = layer.directory.unwrap_or_default().join("profile.yml");
            layer.typos.into_iter().map(move |typo| format!("{}: {typo}", path.display()))
        });
        typos.collect()
    }

    pub fn find(&self, name: &str) -> Result<Profile, Error> {
        self.resolve(name, &mut self.sources())
    }

    fn resolve(&self, name: &str, sources: &mut Sources) -> Result<Profile, Error> {
        let (mut chain, mut seen): (Vec<Layer>, HashSet<String>) = Default::default();
        let mut next = Some(name.to_owned());
        while let Some(name) = next {
            if !seen.insert(name.clone()) {
                let circle = chain.iter().map(|layer| layer.name.clone()).skip_while(|known| *known != name);
                return Err(Error::Cycle(circle.chain([name.clone()]).collect()));
            }
            let child = chain.last().map(|layer: &Layer| layer.name.clone());
            let layer = sources.layer(&name, child)?;
            next = layer.extends.clone();
            chain.push(layer);
        }
        Ok(self.merge(chain))
    }

    /// Name → directory, None for built-in.
    fn sources(&self) -> Sources {
        let mut found: BTreeMap<_, _> = BUILT_IN.iter().map(|(name, _)| (name.to_string(), None)).collect();
        for directory in &self.directories {
            let Ok(entries) = std::fs::read_dir(directory) else { continue };
            for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.join("profile.yml").is_file()) {
                if let Some(name) =
                    path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
                {
                    found.insert(name.to_owned(), Some(path.clone()));
                }
            }
        }
        Sources { known: found, read: HashMap::new() }
    }

    /// `chain`: the child first, then what it extends, and so on.
    fn merge(&self, chain: Vec<Layer>) -> Profile {
        let first = |get: &dyn Fn(&Layer) -> Option<bool>, default: bool| chain.iter().find_map(get).unwrap_or(default);
        let mut flags = Flags::default();
        for layer in chain.iter().rev() {
            flags.overlay(&layer.flags);
        }
        let own = chain.iter().rev().filter_map(|layer| layer.directory.clone());
        Profile {
            name: chain[0].name.clone(),
            description: chain.iter().find_map(|layer| layer.description.clone()).unwrap_or_default(),
            extends: chain[0].extends.clone(),
            is_self_test: chain[0].name == SELF_TEST && chain[0].directory.is_none(),
            auto_pr: first(&|layer| layer.auto_pr, true),
            publish_conflicts: first(&|layer| layer.publish_conflicts, true),
            submodules: chain.iter().find_map(|layer| layer.submodules).unwrap_or_default(),
            trust_repo: first(&|layer| layer.trust_repo, false),
            github_token: first(&|layer| layer.github_token, false),
            worktree: first(&|layer| layer.worktree, true),
            timeout: chain.iter().find_map(|layer| layer.timeout).unwrap_or(self.default_timeout),
            flags,
            directories: self.lowest.iter().filter(|lowest| lowest.is_dir()).cloned().chain(own).collect(),
        }
    }
}

/// Where each profile is, and those that were read already.
struct Sources {
    known: BTreeMap<String, Option<PathBuf>>,
    read: HashMap<String, Layer>,
}

impl Sources {
    /// `child`: the profile that extends this one, if it is not asked for itself.
    fn layer(&mut self, name: &str, child: Option<String>) -> Result<Layer, Error> {
        if let Some(layer) = self.read.get(name) {
            return Ok(layer.clone());
        }
        let Some(source) = self.known.get(name) else {
            let known: Vec<String> = self.known.keys().cloned().collect();
            return Err(match child {
                None => Error::Unknown { name: name.to_owned(), known },
                Some(child) => Error::Broken {
                    path: format!("profile {child}"),
                    why: format!(
                        "extends the unknown profile `{name}`: known are {}{}",
                        known.join(", "),
                        suggest::did_you_mean(name, known.iter().map(String::as_str))
                    ),
                },
            });
        };
        let layer = read(name, source.as_deref())?;
        self.read.insert(name.to_owned(), layer.clone());
        Ok(layer)
    }
}

fn read(name: &str, directory: Option<&Path>) -> Result<Layer, Error> {
    let (path, text) = match directory {
        Some(directory) => {
            let path = directory.join("profile.yml");
            let shown = path.display().to_string();
            match regular_file::read_owned(&path, materialize::FILE_LIMIT) {
                Ok(bytes) => (shown, String::from_utf8_lossy(&bytes).into_owned()),
                Err(error) => return Err(Error::Broken { path: shown, why: error.to_string() }),
            }
        }
        None => {
            let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
            (format!("built-in profile {name}"), built_in.map(|(_, text)| text.to_string()).unwrap_or_default())
        }
    };
    let layer = parse::layer(&text).map_err(|why| Error::Broken { path, why })?;
    Ok(Layer { name: name.to_owned(), directory: directory.map(Path::to_owned), ..layer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(files: &[(&str, &str)]) -> (tempfile::TempDir, Profiles) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("profile.yml"), text).unwrap();
        }
        let profiles = Profiles::new(vec![dir.path().into()], Duration::from_secs(3600));
        (dir, profiles)
    }

    #[test]
    fn the_built_in_ones_are_sound() {
        let (_dir, profiles) = profiles(&[]);
        let (good, bad) = profiles.all();
        assert_eq!(bad, []);
        assert_eq!(good.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["coding", "plan", "review", "self-test"]);
        assert!(
            good[0].auto_pr
                && !good[1].auto_pr
                && !good[2].auto_pr
                && good[3].is_self_test
                && good.iter().all(|p| !p.trust_repo)
        );
    }

    #[test]
    fn extends_merges_parent_first_at_any_depth() {
        let (_dir, profiles) = profiles(&[
            ("a", "extends: b\nclaude: {max_turns: 5, verbose_hooks: true}\nauto_pr: false\n"),
            ("b", "extends: c\ndescription: of b\nclaude: {model: opus, max_turns: 7, timeout: 60}\n"),
            ("c", "description: of c\nclaude: {model: haiku, effort: high, worktree: false}\n"),
        ]);
        let a = profiles.find("a").unwrap();
        assert_eq!((a.description.as_str(), a.auto_pr, a.worktree), ("of b", false, false));
        assert_eq!(a.timeout, Duration::from_secs(60));
        assert_eq!(a.flags.arguments(), ["--effort", "high", "--max-turns", "5", "--model", "opus", "--verbose-hooks"]);
        assert_eq!(
            a.directories.iter().map(|d| d.file_name().unwrap().to_str().unwrap()).collect::<Vec<_>>(),
            ["c", "b", "a"]
        );
    }

    #[test]
    fn a_cycle_is_named_and_unknown_ones_list_the_known() {
        let (_dir, profiles) =
            profiles(&[("a", "extends: b"), ("b", "extends: c"), ("c", "extends: b"), ("d", "extends: nope")]);
        assert_eq!(profiles.find("a").unwrap_err().to_string(), "profiles extend one another in a circle: b → c → b");
        let error = profiles.find("d").unwrap_err().to_string();
        assert!(
            error.contains("profile d: extends the unknown profile `nope`") && error.contains("coding, d, plan"),
            "{error}"
        );
        assert!(matches!(profiles.find("../etc"), Err(Error::Unknown { .. })));
    }

    #[test]
    fn later_directories_win_and_others_keys_are_ignored() {
        let (_first, one) = profiles(&[("coding", "description: mine\nlabels: [x]\n"), ("x", "description: first")]);
        let (_second, two) = profiles(&[("x", "description: second")]);
        let both = Profiles::new([one.directories, two.directories].concat(), Duration::ZERO);
        assert_eq!(both.find("coding").unwrap().description, "mine");
        assert_eq!(both.find("x").unwrap().description, "second");
    }

    #[test]
    fn a_broken_profile_says_where_and_why() {
        for (text, why) in [
            ("claude: 3", "`claude` must hold keys and values"),
            ("auto_pr: maybe", "`auto_pr` must be true or false"),
            ("claude: {timeout: soon}", "`claude.timeout` must be"),
            ("claude: {output_format: text}", "`claude.output_format` is set by the runner"),
            ("extends: [a]", "`extends` must be text"),
            ("submodules: deep", "`submodules` must be true, false or recursive"),
            ("a: [", "YAML"),
        ] {
            let (_dir, profiles) = profiles(&[("p", text)]);
            let error = profiles.find("p").unwrap_err().to_string();
            assert!(error.contains("p/profile.yml") && error.contains(why), "{error}");
        }
    }
}
