//! A private git directory that looks onto a cache: its objects and references, not its
//! configuration, hooks or attributes.
//!
//! The agent shares the runner's uid and may write `config` and `hooks/` of the cache through
//! its worktree. Every git of the runner therefore has a GIT_DIR of its own, made for the call and
//! gone after it, in which `objects`, `packed-refs` and `refs/remotes` are links into the cache.

use super::git::{Call, Error, Git};
use super::own_repository::quoted as quoted_value;
use super::regular_file;
use crate::process::limited::Finished;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A HEAD for calls that need none.
pub const NOWHERE: &str = "ref: refs/heads/agenticore-none";

const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n";

/// The most that an agent's objects take, in bytes as they lie there, and how many files.
const OBJECTS_LIMIT: u64 = 16 << 30;
const OBJECT_FILES_LIMIT: usize = 2_000_000;

pub struct PrivateGitDir<'a> {
    git: &'a Git,
    directory: PathBuf,
    work_tree: Option<PathBuf>,
    index: Option<PathBuf>,
    /// Further objects that are read, and never written.
    more_objects: Vec<PathBuf>,
    /// Where objects are written instead.
    new_objects: Option<PathBuf>,
    /// Configuration beside what every call has.
    settings: Vec<String>,
}

impl<'a> PrivateGitDir<'a> {
    /// Looks onto the git directory `cache`. `head` is what HEAD holds: a commit, or `ref: …`.
    pub fn onto(git: &'a Git, cache: &Path, head: &str) -> Result<Self, Error> {
        let directory = git.runtime_dir.join(format!("git-{}", uuid::Uuid::new_v4().simple()));
        let ours = Self {
            git,
            directory,
            work_tree: None,
            index: None,
            more_objects: Vec::new(),
            new_objects: None,
            settings: Vec::new(),
        };
        ours.make(cache, head).map_err(|error| {
            Error::NotStarted(format!("cannot make a private git directory in {}: {error}", git.runtime_dir.display()))
        })?;
        Ok(ours)
    }

    fn make(&self, cache: &Path, head: &str) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        fs::write(self.path("config"), CONFIG)?;
        fs::write(self.path("HEAD"), format!("{head}\n"))?;
        // Of the references only those that we fetched: an agent's could break, or (refs/replace)
        // change, what every other job sees.
        fs::create_dir_all(cache.join("refs/remotes"))?;
        fs::create_dir(self.path("refs"))?;
        for part in ["objects", "packed-refs", "refs/remotes"] {
            symlink(cache.join(part), self.path(part))?;
        }
        if cache.join("shallow").exists() {
            symlink(cache.join("shallow"), self.path("shallow"))?;
        }
        Ok(())
    }

    /// The same with files: a work tree and the index that describes it.
    pub fn with_work_tree(mut self, work_tree: &Path, index: &Path) -> Self {
        self.work_tree = Some(work_tree.to_owned());
        self.index = Some(index.to_owned());
        self
    }

    /// The same with more configuration, `NAME=VALUE` each.
    pub fn with_settings(mut self, settings: impl IntoIterator<Item = String>) -> Self {
        self.settings.extend(settings);
        self
    }

    /// The same with more configuration in its own file, as `NAME = VALUE`: what git starts for another repository
    /// does not get that.
    pub fn with_config(self, settings: &[(&str, String)]) -> Result<Self, Error> {
        let mut text = fs::read_to_string(self.path("config")).unwrap_or_default();
        for (name, value) in settings {
            let (section, key) = name.rsplit_once('.').unwrap_or((name, ""));
            let section = match section.split_once('.') {
                Some((section, below)) => format!("{section} \"{below}\""),
                None => section.to_owned(),
            };
            text += &format!("[{section}]\n\t{key} = {}\n", quoted_value(value));
        }
        fs::write(self.path("config"), text)
            .map_err(|error| Error::NotStarted(format!("{}: {error}", self.path("config").display())))?;
        Ok(self)
    }

    /// The same with the objects of a job's own repository, which its agent may have written as it liked: no link and
    /// no pipe among them, no alternates of its own, and no more than a bound.
    pub fn with_objects_of(mut self, repository: &Path) -> Result<Self, Error> {
        let cannot = |error: io::Error| {
            Error::NotStarted(format!("cannot read the objects of {}: {error}", repository.display()))
        };
        let view = self.path("agent-objects");
        fs::create_dir(&view).map_err(cannot)?;
        for directory in agent_objects(&repository.join("objects")).map_err(cannot)? {
            if let Some(name) = directory.file_name() {
                symlink(&directory, view.join(name)).map_err(cannot)?;
            }
        }
        self.more_objects.push(view);
        Ok(self)
    }

    /// The same, but what it makes goes to `objects`: the cache's own are read only.
    pub fn writing_to(mut self, objects: &Path) -> Self {
        self.more_objects.push(self.path("objects"));
        self.new_objects = Some(objects.to_owned());
        self
    }

    /// Where the history of a shallow remote ends git noted here, in place of what the cache has of it.
    pub fn keep_shallow(&self, cache: &Path) -> Result<(), Error> {
        let noted = self.path("shallow");
        let is_new = fs::symlink_metadata(&noted).is_ok_and(|found| found.is_file());
        let kept = match is_new {
            true => fs::read(&noted).and_then(|text| regular_file::write(&cache.join("shallow"), &text)),
            false => Ok(()),
        };
        kept.map_err(|error| Error::NotStarted(format!("cannot note that {} is shallow: {error}", cache.display())))
    }

    /// A path inside the private directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What HEAD holds now.
    pub fn head(&self) -> String {
        fs::read_to_string(self.path("HEAD")).unwrap_or_default().trim().to_owned()
    }

    pub fn run(&self, arguments: &[&str], call: Call) -> Result<Finished, Error> {
        self.run_as(arguments, &[], call)
    }

    /// The same within a limit of its own, or git's if that is shorter.
    pub fn run_within(&self, limit: Duration, arguments: &[&str], call: Call) -> Result<Finished, Error> {
        let what = arguments.first().copied().unwrap_or_default();
        self.git.run_within(limit.min(self.git.timeout), self.command(arguments, &[]), what, call)
    }

    pub fn run_as(&self, arguments: &[&str], variables: &[(&str, &str)], call: Call) -> Result<Finished, Error> {
        self.git.run(self.command(arguments, variables), arguments.first().copied().unwrap_or_default(), call)
    }

    /// Runs what moves much between a remote and here: see [`Git::transfer`].
    pub fn transfer(&self, arguments: &[&str], call: Call, heard: &mut dyn FnMut(&[u8])) -> Result<Finished, Error> {
        let what = arguments.iter().find(|word| **word != "-c" && !word.contains('=')).copied().unwrap_or_default();
        self.git.transfer(self.command(arguments, &[]), what, call, heard)
    }

    /// The same with a file as its input.
    pub fn run_on(&self, input: &Path, arguments: &[&str], call: Call) -> Result<Finished, Error> {
        let input = fs::File::open(input).map_err(|error| Error::NotStarted(error.to_string()))?;
        let what = arguments.first().copied().unwrap_or_default();
        self.git.run_on(input.into(), self.git.timeout, self.command(arguments, &[]), what, call)
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = self.git.command();
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.args(arguments).current_dir(&self.directory);
        // Git-lfs finds the directory by being started in it: what it starts for a remote on this machine would take
        // the variable for that one's.
        if arguments.first() != Some(&"lfs") {
            command.env("GIT_DIR", &self.directory);
        }
        if !self.more_objects.is_empty() {
            let paths: Vec<Vec<u8>> = self.more_objects.iter().map(|path| quoted(path)).collect();
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", OsStr::from_bytes(&paths.join(&b':')));
        }
        if let Some(objects) = &self.new_objects {
            command.env("GIT_OBJECT_DIRECTORY", objects);
        }
        if let Some(work_tree) = &self.work_tree {
            command.env("GIT_WORK_TREE", work_tree).current_dir(work_tree);
        }
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        command.envs(variables.iter().copied());
        command
    }

    /// The commit that `name` stands for, if it is there.
    pub fn commit_of(&self, name: &str, call: Call) -> Result<Option<String>, Error> {
        let wanted = format!("{name}^{{commit}}");
        match self.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted], call) {
            Ok(finished) => Ok(Some(String::from_utf8_lossy(&finished.stdout).trim().to_owned())),
            Err(Error::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for PrivateGitDir<'_> {
    fn drop(&mut self) {
        // Only links and small files: what they point to stays.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A path of a list that git splits at colons: git(1), GIT_ALTERNATE_OBJECT_DIRECTORIES.
fn quoted(path: &Path) -> Vec<u8> {
    let escaped = path.as_os_str().as_bytes().iter().flat_map(|byte| match byte {
        b'"' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    });
    [b'"'].into_iter().chain(escaped).chain([b'"']).collect()
}

/// The directories with objects in what an agent may have written. A link could lead to another job's objects, a pipe
/// would hold up whoever opens it.
fn agent_objects(objects: &Path) -> io::Result<Vec<PathBuf>> {
    let is_of_objects = |name: &str| name == "pack" || (name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit()));
    let (mut found, mut bytes, mut files) = (Vec::new(), 0, 0);
    let odd = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let entries = match fs::read_dir(objects) {
        Ok(entries) => entries,
        // The agent removed them: what it left is the files of its worktree.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(found);
        }
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(is_of_objects) {
            continue;
        }
        if !entry.file_type()?.is_dir() {
            return Err(odd(format!("{} is no directory", entry.path().display())));
        }
        for file in fs::read_dir(entry.path())? {
            let file = file?;
            let meta = fs::symlink_metadata(file.path())?;
            if !meta.is_file() {
                return Err(odd(format!("{} is no regular file", file.path().display())));
            }
            (bytes, files) = (bytes + meta.len(), files + 1);
            if bytes > OBJECTS_LIMIT || files > OBJECT_FILES_LIMIT {
                return Err(odd("there are too many of them".into()));
            }
        }
        found.push(entry.path());
    }
    Ok(found)
}
