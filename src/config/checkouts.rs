//! Which checkouts of agentihooks and of profiles a server has, and where they lie. Pure.

use super::values::Values;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub struct Checkouts {
    /// A mounted checkout of agentihooks; it wins over `url`.
    pub path: Option<PathBuf>,
    pub url: Option<String>,
    pub branch: Option<String>,
    pub bundle_url: Option<String>,
    pub bundle_branch: Option<String>,
    /// Where they are cloned to: the shared volume, or `~/.agenticore`.
    pub root: PathBuf,
    /// What is this server's own of them: `~/.agenticore/agentihooks`.
    pub own: PathBuf,
    /// The command `agentihooks` is run at start.
    pub runs_command: bool,
}

impl Checkouts {
    pub(super) fn read(values: &Values, shared_root: Option<&Path>, own_dir: &Path) -> Self {
        let (path, url) = (values.path("AGENTICORE_AGENTIHOOKS_PATH"), values.owned("AGENTICORE_AGENTIHOOKS_URL"));
        Self {
            runs_command: values.is_true("AGENTICORE_AGENTIHOOKS") || path.is_some() || url.is_some(),
            path,
            url,
            branch: values.owned("AGENTICORE_AGENTIHOOKS_BRANCH"),
            bundle_url: values.owned("AGENTICORE_AGENTIHOOKS_BUNDLE_URL"),
            bundle_branch: values.owned("AGENTICORE_AGENTIHOOKS_BUNDLE_BRANCH"),
            root: shared_root.unwrap_or(own_dir).to_owned(),
            // Without a shared volume the clone itself is `~/.agenticore/agentihooks`.
            own: own_dir.join("agentihooks.d"),
        }
    }

    /// Where agentihooks is cloned to.
    pub fn agentihooks(&self) -> PathBuf {
        self.root.join("agentihooks")
    }

    /// Where the bundle is cloned to.
    pub fn bundle(&self) -> PathBuf {
        self.root.join("agentihooks-bundle")
    }

    /// The checkout of agentihooks that is used, if one is.
    pub fn in_use(&self) -> Option<PathBuf> {
        self.path.clone().or_else(|| self.url.as_ref().map(|_| self.agentihooks()))
    }

    /// Where its command lies, and no other program: agents have this before their PATH.
    pub fn commands(&self) -> PathBuf {
        self.own.join("bin")
    }

    /// Profiles in them, later ones winning. They need not be there yet.
    pub(super) fn profile_dirs(&self) -> Vec<PathBuf> {
        let bundle = self.bundle_url.as_ref().map(|_| self.bundle());
        self.in_use().into_iter().chain(bundle).map(|path| path.join("profiles")).collect()
    }

    /// What was installed for agents: the lowest layer of all profiles, once it is there.
    pub fn layer(&self) -> Option<PathBuf> {
        self.runs_command.then(|| self.own.join("layer"))
    }

    /// With the command `agentihooks` of the checkout before any other.
    pub(super) fn with_its_command(&self, mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
        if self.in_use().is_some() {
            let path = variables.entry("PATH".into()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".into());
            *path = format!("{}:{path}", self.commands().display());
        }
        variables
    }
}
