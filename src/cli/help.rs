//! `--help`: what there is, with examples.

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum About {
    Everything,
    Serve,
    Run,
    Jobs,
    Job,
    Cancel,
    Drain,
    Doctor,
    Profiles,
    Status,
    InitSharedFs,
    Config,
}

impl About {
    pub fn parse(command: Option<&str>) -> Self {
        match command {
            Some("serve") => About::Serve,
            Some("run") => About::Run,
            Some("jobs") => About::Jobs,
            Some("job") => About::Job,
            Some("cancel") => About::Cancel,
            Some("drain") => About::Drain,
            Some("doctor") => About::Doctor,
            Some("profiles") => About::Profiles,
            Some("status") => About::Status,
            Some("init-shared-fs") => About::InitSharedFs,
            Some("config") => About::Config,
            _ => About::Everything,
        }
    }
}

pub fn text(about: About) -> String {
    let text = match about {
        About::Everything => EVERYTHING,
        About::Serve => {
            "\
agenticore serve [--host ADDRESS] [--port PORT]

Starts the server: takes jobs over REST, keeps them in AGENTICORE_JOBS_DIR, or in the Redis at
REDIS_URL for a fleet of servers, and runs AGENTICORE_MAX_PARALLEL_JOBS of them at once. SIGTERM
and Ctrl-C give running jobs AGENTICORE_SHUTDOWN_GRACE seconds, then put them back in the queue; a
second one hurries.

  --host ADDRESS   listen here (AGENTICORE_HOST, 127.0.0.1)
  --port PORT      and on this port (AGENTICORE_PORT, 8200)
"
        }
        About::Run => {
            "\
agenticore run TASK [flags]

Submits a job, or runs one right here with --local. TASK is what Claude is told; - reads it from
standard input. With --wait the exit code tells how the job ended.

  -r, --repo URL        repository to work in: https://, ssh:// or git@HOST:PATH
  -p, --profile NAME    execution profile (see `agenticore profiles`)
      --base-ref NAME   branch, tag or commit to begin at (the remote's default branch)
      --session-id ID   go on with an earlier job's Claude session
      --file-path FILE  a .mcp.json whose servers this job gets as well
      --create-repo     make the GitHub repository if it is not there
      --private         … private (the default); --public: … public
  -w, --wait            wait for the end
      --local           run it in this very process, without a server, and show its progress
      --idempotency-key KEY
                        sent again with the same key, it is the same job
      --json            print the job's record as JSON

  agenticore run \"fix the failing test\" --repo https://github.com/you/project --wait
  agenticore run - --local < task.md
"
        }
        About::Jobs => {
            "\
agenticore jobs [-n LIMIT] [-s STATUS] [--json]

Lists jobs, newest first.

  -n, --limit LIMIT     how many, 1 to 1000 (20)
  -s, --status STATUS   only queued, running, succeeded, failed, cancelled or expired ones
      --json            as a JSON array

  agenticore jobs --json | jq '.[].pod_name'
"
        }
        About::Job => {
            "\
agenticore job ID [--json]

Shows one job. The first characters of its id will do, if there are at least 4 and no other job's
id begins with them.
"
        }
        About::Cancel => {
            "\
agenticore cancel ID [--json]

Cancels a queued or running job: its whole process tree is ended. Of two that end it at once, one
wins, and that stays.
"
        }
        About::Drain => {
            "\
agenticore drain [--timeout SECONDS] [--json] | --cancel

Empties this pod: it begins no job any more, /ready turns 503, and running jobs may end. When the
time is up the rest is ended and goes back to the head of the queue, where other pods take it.
Requests are served as before, until SIGTERM. Run again it goes on waiting. A pod that restarts
is not draining.

      --timeout SECONDS  what running jobs get (300); it has to be less than what Kubernetes gives
      --cancel           take it back: jobs are begun again
      --json             say at the end how it went as JSON

Exit codes: 0 the pod is empty, 3 jobs were put back. It asks the server at AGENTICORE_HOST and
AGENTICORE_PORT, and when that cannot be reached, Redis.
"
        }
        About::Doctor => {
            "\
agenticore doctor [--fix] [--json]

Proves on the live system that everything is as it should be, and shows the evidence of each:
every unfinished job in one place, leases with living owners, no lock, worktree, process or branch
that nobody owns, Redis fit for a queue, clocks together, volumes writable and hard links working.
What may be about to change is looked at twice, so it can take some seconds.

      --fix    repair what can be repaired without risk
      --json   the findings as a JSON array

Exit code 1: something is wrong. Worktrees and processes are those of the machine it runs on: in a
fleet, run it in each pod.
"
        }
        About::Profiles => "agenticore profiles [--json]\n\nLists the execution profiles that the server knows.\n",
        About::Status => {
            "\
agenticore status [--alive] [--wait SECONDS] [--json]

Asks the server whether it is well, and what it waits for. Exit code 6: it cannot be reached.

      --alive         say nothing, and ask for nothing but whether it answers: a health check without a shell
      --wait SECONDS  wait until it is ready to take jobs, for so long at most
"
        }
        About::InitSharedFs => {
            "\
agenticore init-shared-fs [--shared-root PATH] [--json]

Makes profiles/, repos/, jobs/ and job-state/ on the volume that servers share, where they are missing,
and tries what servers need of it: locks, renames, links, modes, space. What it lacks is said, a sentence
each. Servers do the same when they start. Changes no owner; may be run by many pods at once.

      --shared-root PATH   the volume (AGENTICORE_SHARED_FS_ROOT)

Exit code 1: no server can run on it.
"
        }
        About::Config => {
            "\
agenticore config [--json]

Shows every setting, its value, and where that came from: the environment, ~/.agenticore/config.yml,
or the default. Secrets are masked.
"
        }
    };
    text.to_owned()
}

const EVERYTHING: &str = "\
agenticore runs coding agents: it takes tasks, queues them, runs `claude -p` for each in a worktree of
its own, and opens a pull request with what came out.

  agenticore serve               start the server (also without any command)
  agenticore run TASK            submit a job, or run it right here with --local
  agenticore jobs                list jobs
  agenticore job ID              show one
  agenticore cancel ID           cancel one
  agenticore drain               empty this pod before it goes
  agenticore doctor              prove that everything is as it should be
  agenticore profiles            list execution profiles
  agenticore status              is the server well?
  agenticore init-shared-fs      prepare and try a volume that servers share
  agenticore config              show the settings and where they came from
  agenticore version             print the version

`agenticore COMMAND --help` says more. A first run, without a server:

  agenticore run --local \"add a README\" --repo https://github.com/you/project

Exit codes: 0 done, 1 failed, 2 bad usage, 3 drained but jobs were put back, 4 cancelled or expired, 5 succeeded but not published,
6 server unreachable. Clients look for the server at AGENTICORE_HOST:AGENTICORE_PORT.
";
