//! The one table of commands and their flags: the parser, `--help` and "did you mean" come from it.

pub struct Flag {
    pub short: Option<char>,
    pub name: &'static str,
    /// What stands for its value; None: it takes none.
    pub value: Option<&'static str>,
    pub help: &'static str,
}

pub struct Row {
    pub name: &'static str,
    /// What stands for the word that it takes; None: it takes none.
    pub word: Option<&'static str>,
    /// For the list of all commands.
    pub summary: &'static str,
    /// What it does, in whole sentences.
    pub about: &'static str,
    pub flags: &'static [Flag],
    /// What stands below the flags: exit codes, examples.
    pub more: &'static str,
}

const fn flag(name: &'static str, value: Option<&'static str>, help: &'static str) -> Flag {
    Flag { short: None, name, value, help }
}

const fn short(letter: char, name: &'static str, value: Option<&'static str>, help: &'static str) -> Flag {
    Flag { short: Some(letter), name, value, help }
}

const JSON: Flag = flag("json", None, "print JSON");
/// What every command has that asks a server.
pub const SERVER: Flag = flag("server", Some("URL"), "the server, if not the one at AGENTICORE_URL");

pub const COMMANDS: [Row; 28] = [
    Row {
        name: "serve",
        word: None,
        summary: "start the server (also without any command)",
        about: "Starts the server. It takes jobs over REST, keeps them in AGENTICORE_JOBS_DIR, or in the Redis at
REDIS_URL for a fleet of servers, and runs AGENTICORE_MAX_PARALLEL_JOBS of them at once. SIGTERM,
SIGHUP and Ctrl-C give running jobs AGENTICORE_SHUTDOWN_GRACE seconds, then put them back in the
queue. A second one hurries. With AGENTICORE_TRANSPORT=stdio it is an MCP server on standard input
and output instead, until the input ends; where a server is already, a bridge to that one.",
        flags: &[
            flag("host", Some("ADDRESS"), "listen here (AGENTICORE_HOST, 127.0.0.1)"),
            flag("port", Some("PORT"), "and on this port (AGENTICORE_PORT, 8200)"),
        ],
        more: "",
    },
    Row {
        name: "run",
        word: Some("TASK"),
        summary: "submit a job, or run it right here with --local",
        about: "Submits a job, or runs one right here with --local. TASK is what Claude is told; - reads it from
standard input, --task-file from a file. With --wait the exit code tells how the job ended.",
        flags: &[
            short('r', "repo", Some("URL"), "repository: https://, ssh://, git@HOST:PATH, or a directory"),
            short('p', "profile", Some("NAME"), "execution profile (see `agenticore profiles`)"),
            flag("model", Some("NAME"), "another model than the profile's"),
            flag("max-turns", Some("COUNT"), "the most turns of the agent, instead of the profile's"),
            flag("timeout", Some("SECONDS"), "how long the agent may run, instead of the profile's; to 86400"),
            flag("task-file", Some("FILE"), "a file that holds what Claude is told, in place of TASK"),
            flag("base-ref", Some("NAME"), "branch, tag or commit to begin at (the remote's default branch)"),
            flag("session-id", Some("ID"), "go on with an earlier job's Claude session"),
            flag("file-path", Some("FILE"), "a .mcp.json whose servers this job gets as well"),
            flag("create-repo", None, "make the GitHub repository if it is not there"),
            flag("private", None, "… as a private one (the default)"),
            flag("public", None, "… as a public one"),
            short('w', "wait", None, "wait for the end"),
            short('d', "detach", None, "do not wait for the end (the default)"),
            flag("local", None, "run it in this very process, without a server, and show its progress"),
            flag("label", Some("NAME=VALUE"), "what you call it by; more than one may be given"),
            flag("webhook-url", Some("URL"), "where its end is told"),
            flag("idempotency-key", Some("KEY"), "sent again with the same key, it is the same job"),
            flag("json", None, "print the job's record as JSON"),
            SERVER,
        ],
        more: "  agenticore run \"fix the failing test\" --repo https://github.com/you/project --wait
  agenticore run --task-file task.md --local
",
    },
    Row {
        name: "jobs",
        word: None,
        summary: "list jobs",
        about: "Lists jobs, newest first.",
        flags: &[
            short('n', "limit", Some("LIMIT"), "how many, 1 to 1000 (20)"),
            short('s', "status", Some("STATUS"), "queued, running, succeeded, failed, cancelled or expired ones alone"),
            short('r', "repo", Some("REPO"), "of this repository: its URL, or the end of its path: you/project"),
            short('p', "profile", Some("NAME"), "of this profile"),
            flag("branch", Some("NAME"), "on this branch"),
            flag("label", Some("NAME=VALUE"), "with this label; more than one may be given"),
            flag("submitted-by", Some("KEY"), "handed in with the API key of this name"),
            flag("mine", None, "handed in with the key that asks"),
            flag("since", Some("WHEN"), "not older than 90m, 12h, 3d, a date or a time of RFC 3339"),
            short('q', "search", Some("TEXT"), "with this text in the task, error, note, branch or labels"),
            flag("after", Some("CURSOR"), "older ones than a list before, which prints this"),
            flag("watch", None, "show them until Ctrl-C, drawn again when a job changes"),
            flag("json", None, "print a JSON array"),
            SERVER,
        ],
        more: "  agenticore jobs --json | jq '.[].pod_name'\n",
    },
    Row {
        name: "watch",
        word: None,
        summary: "watch the server and its jobs",
        about: "Shows how the server is, and its newest jobs, until Ctrl-C. It is drawn again as soon as a job
changes.",
        flags: &[
            short('n', "limit", Some("LIMIT"), "how many, 1 to 1000 (20); as many as fit are shown"),
            short('s', "status", Some("STATUS"), "queued, running, succeeded, failed, cancelled or expired ones alone"),
            short('r', "repo", Some("REPO"), "of this repository: its URL, or the end of its path: you/project"),
            flag("label", Some("NAME=VALUE"), "with this label; more than one may be given"),
            flag("mine", None, "handed in with the key that asks"),
            SERVER,
        ],
        more: "",
    },
    Row {
        name: "open",
        word: Some("ID"),
        summary: "open a job's pull request, or the job on the server's page",
        about: "Opens a job's pull request in a browser, or where there is none the job on the server's page, and
prints the address.",
        flags: &[SERVER],
        more: "",
    },
    Row {
        name: "diff",
        word: Some("ID"),
        summary: "show what a job changed",
        about: "Shows what a job changed, once that is published or kept. To a file or a program it is printed as
`git apply` takes it. What it lacks (binary files, bytes that are no UTF-8, masked secrets, what is
beyond 512 KiB) is said: then fetch the branch instead.",
        flags: &[JSON, SERVER],
        more: "  agenticore diff 3f2a1b9c | git apply --check\n",
    },
    Row {
        name: "job",
        word: Some("ID"),
        summary: "show one job",
        about: "Shows one job. The first characters of its id will do, if there are at least 4 and no other job's
id begins with them.",
        flags: &[flag("json", None, "print a JSON object"), SERVER],
        more: "",
    },
    Row {
        name: "logs",
        word: Some("ID"),
        summary: "show what happened to a job, and follow it",
        about: "Shows what the agent of a job said and did, and what became of it. With --follow also what happens
from now on, to the job's end; a server that is away meanwhile is waited for, and nothing is missed.",
        flags: &[
            short('f', "follow", None, "go on until the job has ended"),
            flag("since", Some("CURSOR"), "only what happened after this event, as --json shows its cursor"),
            flag("json", None, "print each event as JSON, one a line"),
            SERVER,
        ],
        more: "  agenticore logs 3f2a1b9c -f\n",
    },
    Row {
        name: "cancel",
        word: Some("ID…"),
        summary: "cancel jobs",
        about: "Cancels queued or running jobs: the whole process tree of each is ended. Of two that end a job at
once, one wins, and that stays.",
        flags: &[JSON, SERVER],
        more: "",
    },
    Row {
        name: "retry",
        word: Some("ID…"),
        summary: "submit the requests of ended jobs again",
        about: "Submits the request of a job that has ended again: a new job, and each of the two names the other.
With --wait, for one job, the exit code tells how the new one ended.",
        flags: &[
            short('w', "wait", None, "wait for the end"),
            flag("idempotency-key", Some("KEY"), "sent again with the same key, it is the same job"),
            flag("json", None, "print the new job's record as JSON"),
            SERVER,
        ],
        more: "  agenticore retry 3f2a1b9c --wait\n",
    },
    Row {
        name: "resume",
        word: Some("ID TASK"),
        summary: "go on with an ended job's conversation, and with its work",
        about: "Submits a new job that goes on with the conversation of one that has ended: in the same repository
and with the same profile, from the branch that it pushed, or with the files that were kept of it.
TASK is what Claude is told now; - reads it from standard input.",
        flags: &[
            short('w', "wait", None, "wait for the end"),
            flag("idempotency-key", Some("KEY"), "sent again with the same key, it is the same job"),
            flag("json", None, "print the job's record as JSON"),
            SERVER,
        ],
        more: "  agenticore resume 3f2a1b9c \"now with tests\" --wait
",
    },
    Row {
        name: "plan",
        word: Some("TASK"),
        summary: "have a task planned, and nothing changed",
        about: "Submits a task to be planned: the agent reads the repository and writes a plan. It changes nothing,
and no pull request is opened. TASK - reads it from standard input. With --wait the plan is printed;
otherwise `agenticore job ID` shows it. `agenticore execute-plan ID` carries it out.",
        flags: &[
            short('r', "repo", Some("URL"), "repository to plan for: https://, ssh:// or git@HOST:PATH"),
            flag("base-ref", Some("NAME"), "branch, tag or commit to plan for (the remote's default branch)"),
            flag("file-path", Some("FILE"), "a .mcp.json whose servers the agent gets as well"),
            short('w', "wait", None, "wait for the plan"),
            flag("idempotency-key", Some("KEY"), "sent again with the same key, it is the same plan"),
            flag("json", None, "print the plan as JSON"),
            SERVER,
        ],
        more: "  agenticore plan \"split the parser\" --repo https://github.com/you/project --wait\n",
    },
    Row {
        name: "plans",
        word: None,
        summary: "list plans",
        about: "Lists plans, newest first.",
        flags: &[
            short('n', "limit", Some("LIMIT"), "how many, 1 to 1000 (20)"),
            flag("json", None, "print a JSON array"),
            SERVER,
        ],
        more: "",
    },
    Row {
        name: "execute-plan",
        word: Some("ID"),
        summary: "carry a plan out",
        about: "Makes the one job that carries out a plan that is ready, at the commit that it was made for. Run
again it is the same job. With --wait the exit code tells how the job ended.",
        flags: &[
            short('r', "repo", Some("URL"), "where to work, for a plan without a repository"),
            short('p', "profile", Some("NAME"), "execution profile (see `agenticore profiles`)"),
            flag("file-path", Some("FILE"), "a .mcp.json whose servers this job gets as well"),
            short('w', "wait", None, "wait for the end"),
            flag("json", None, "print the job's record as JSON"),
            SERVER,
        ],
        more: "  agenticore execute-plan 3f2a1b9c --wait\n",
    },
    Row {
        name: "drain",
        word: None,
        summary: "empty this pod before it goes",
        about: "Empties this pod: it begins no job any more, /ready turns 503, and running jobs may end. When the
time is up the rest is ended and goes back to the head of the queue, where other pods take it.
Requests are served as before, until SIGTERM. Run again it goes on waiting. A pod that restarts
is not draining.",
        flags: &[
            flag("timeout", Some("SECONDS"), "what running jobs get (300); less than what Kubernetes gives"),
            flag("cancel", None, "take it back: jobs are begun again"),
            flag("json", None, "say at the end how it went as JSON"),
            SERVER,
        ],
        more: "Exit codes: 0 the pod is empty, 3 jobs were put back. It asks the server at AGENTICORE_HOST and
AGENTICORE_PORT, and when that cannot be reached, Redis.
",
    },
    Row {
        name: "doctor",
        word: None,
        summary: "prove that everything is as it should be",
        about: "Proves on the live system that everything is as it should be, and shows the evidence of each:
every unfinished job in one place, leases with living owners, no lock, worktree, process or branch
that nobody owns, Redis fit for a queue, clocks together, volumes writable and hard links working.
What may be about to change is looked at twice, so it can take some seconds. --fix removes only what
is provably nobody's and holds no work; what cannot be proved is reported, and stays.",
        flags: &[
            flag("fix", None, "repair what can be repaired without risk"),
            flag("cluster", None, "look at the whole fleet: pods, what scales them, the volume, jobs that wait"),
            flag("discard", Some("ID"), "remove this job's worktree; says first what is lost"),
            flag("json", None, "print the findings as a JSON array"),
        ],
        more: "Exit code 1: something is wrong. Worktrees and processes are those of the machine it runs on: in a
fleet, run it in each pod.
",
    },
    Row {
        name: "profiles",
        word: None,
        summary: "list execution profiles",
        about: "Lists the execution profiles that the server knows.",
        flags: &[JSON, SERVER],
        more: "",
    },
    Row {
        name: "mcp",
        word: None,
        summary: "let an MCP client on this machine use a server elsewhere",
        about: "Speaks MCP on standard input and output, and passes each message on to the server. For clients that
start a program; those that take a URL need only http://HOST:8200/mcp.",
        flags: &[SERVER],
        more: "  claude mcp add agenticore -- agenticore mcp --server http://agents.example:8200
",
    },
    Row {
        name: "status",
        word: None,
        summary: "is the server well?",
        about: "Asks the server what it needs to run jobs, whether it has it, and what to do about what it lacks.",
        flags: &[
            flag("alive", None, "say nothing, ask whether it answers: a health check without a shell"),
            flag("wait", Some("SECONDS"), "wait until it takes jobs in, for so long at most"),
            JSON,
            SERVER,
        ],
        more: "Exit codes: 0 jobs run here, 1 they do not (it drains, or lacks something), 6 it cannot be reached.
With --wait: 0 as soon as it takes jobs in; those may still wait for a login.
",
    },
    Row {
        name: "webhooks",
        word: None,
        summary: "list who is still to be told of jobs, and who could not be",
        about: "Lists the webhooks that wait for another try, and those that were given up after a day. With --retry
all of them are tried again at once.",
        flags: &[flag("retry", None, "try them again"), JSON, SERVER],
        more: "Exit code 1: some were given up.\n",
    },
    Row {
        name: "hooks",
        word: Some("sync"),
        summary: "fetch the checkouts of agentihooks and of a bundle again",
        about: "Has the newest of agentihooks (AGENTICORE_AGENTIHOOKS_URL) and of a bundle of profiles
(AGENTICORE_AGENTIHOOKS_BUNDLE_URL): clones what is not there, fetches what is, installs it. Jobs
that begin afterwards use it. It works with this command's settings, so run it where the server
runs: in a pod by kubectl exec. POST /admin/sync asks a server to do the same.",
        flags: &[
            flag("target", Some("WHICH"), "all (the default), agentihooks or bundle"),
            flag("url", Some("URL"), "fetch this repository instead of the configured one"),
            JSON,
        ],
        more: "Exit code 1: something could not be fetched; what was there stays as it was.\n",
    },
    Row {
        name: "init-shared-fs",
        word: None,
        summary: "prepare and try a volume that servers share",
        about: "Makes profiles/, repos/, jobs/ and job-state/ on the volume that servers share, where they are
missing, and tries what servers need of it: locks, renames, links, modes, space. What it lacks is
said, a sentence each. Then clones agentihooks and the bundle, if their URLs are set. Servers do the
same when they start. It changes no owner, and many pods may run it at once.",
        flags: &[flag("shared-root", Some("PATH"), "the volume (AGENTICORE_SHARED_FS_ROOT)"), JSON],
        more: "Exit code 1: no server can run on it.\n",
    },
    Row {
        name: "key",
        word: Some("new NAME"),
        summary: "make an API key, and the line by which a server knows it",
        about: "Makes an API key and prints it, this once, with the line for the file that AGENTICORE_API_KEYS_FILE
names. The line holds the key's SHA-256 alone. The server heeds the file within five seconds.",
        flags: &[
            flag("scope", Some("SCOPE"), "read, submit (the default) or admin; each holds those before it"),
            flag("expires", Some("DATE"), "until when it is good, such as 2027-01-31"),
            flag("max-queued", Some("COUNT"), "the most of its jobs that may wait at once"),
            JSON,
        ],
        more: "  agenticore key new ci --scope submit
",
    },
    Row {
        name: "init",
        word: None,
        summary: "write a first config.yml and a profile",
        about: "Writes ~/.agenticore/config.yml and a profile of your own, which jobs then have when they name none.
On a terminal it asks for what no flag says; elsewhere, or with --yes, that is the default. Where
config.yml is there already, nothing is written.",
        flags: &[
            short('p', "profile", Some("NAME"), "what the profile is called (own)"),
            flag("model", Some("NAME"), "its model (sonnet)"),
            flag("jobs", Some("COUNT"), "how many jobs run at once (3; about 320 MiB each)"),
            flag("port", Some("PORT"), "where the server listens (8200)"),
            flag("no-pull-requests", None, "publish nothing: the work stays in its worktree"),
            short('y', "yes", None, "ask nothing"),
        ],
        more: "",
    },
    Row {
        name: "config",
        word: None,
        summary: "show the settings and where they came from",
        about: "Shows every setting, its value, and where that came from: the environment,
~/.agenticore/config.yml, or the default. Secrets are masked.",
        flags: &[JSON],
        more: "",
    },
    Row {
        name: "completions",
        word: Some("SHELL"),
        summary: "print what bash, zsh or fish completes after `agenticore`",
        about: "Prints the completions for a shell: bash, zsh or fish.",
        flags: &[],
        more: "  source <(agenticore completions bash)
  agenticore completions zsh > ~/.zfunc/_agenticore      # a directory of $fpath
  agenticore completions fish > ~/.config/fish/completions/agenticore.fish
",
    },
    Row {
        name: "man",
        word: None,
        summary: "print the manual page",
        about: "Prints the manual page.",
        flags: &[],
        more: "  agenticore man | man -l -\n",
    },
    Row {
        name: "version",
        word: None,
        summary: "print the version",
        about: "Prints the version.",
        flags: &[],
        more: "",
    },
];

pub fn find(name: &str) -> Option<&'static Row> {
    COMMANDS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        for row in &COMMANDS {
            assert!(row.about.lines().chain(row.more.lines()).all(|line| line.chars().count() <= 100), "{}", row.name);
            for (at, flag) in row.flags.iter().enumerate() {
                let is_unique = row.flags[..at]
                    .iter()
                    .all(|other| other.name != flag.name && (flag.short.is_none() || other.short != flag.short));
                assert!(is_unique, "{} {}", row.name, flag.name);
            }
        }
    }
}
