//! The one table of tools: names, when to use them, what they take and give, and what they ask the service.

use super::calls;
use super::tools::Tool;

const JOB_ID: (&str, &str, &str) =
    ("job_id", "string", "the job's id, or at least its first 4 characters if no other job's id begins so");

const PLAN_ID: (&str, &str, &str) =
    ("plan_id", "string", "the plan's id, or at least its first 4 characters if no other id begins so");
const WORKTREE_ID: (&str, &str, &str) =
    ("worktree_id", "string", "the worktree's id, or at least its first 4 characters if no other id begins so");

pub const TOOLS: [Tool; 18] = [
    Tool {
        name: "run_task",
        title: "Run a coding task",
        description: "Hands a coding task to an agent (Claude Code) that works on its own in a fresh checkout of \
             repo_url, on a branch of its own, and opens a pull request with what it changed. Returns the \
             job at once; it is queued and will reach an end. Use get_job or wait_for_job to see how it \
             went, get_job_events to watch, cancel_job to stop it. With wait the answer comes when the \
             job has ended, which can take an hour: prefer wait_for_job. Giving up the waiting, or \
             closing the connection, never cancels the job. Say in task everything that the agent has to \
             know: it sees nothing of this conversation.",
        arguments: &[
            ("task", "string", "what is to be done, in whole sentences"),
            ("repo_url", "string", "the repository: https://…, ssh://… or git@host:path; none: an empty directory"),
            ("profile", "string", "execution profile, see list_profiles; none: the server's default"),
            ("base_ref", "string", "branch, tag or commit to begin at; none: the repository's default branch"),
            ("session_id", "string", "go on with an earlier job's Claude session (its session_id)"),
            ("file_path", "string", "a .mcp.json on the server whose MCP servers this job gets as well"),
            ("create_repo", "boolean", "make the GitHub repository if it is not there"),
            ("private", "boolean", "… as a private one (true)"),
            ("worktree_id", "string", "work in this prepared worktree, see prepare_worktree; none: a fresh checkout"),
            ("wait", "boolean", "answer when the job has ended (false)"),
            ("model", "string", "another model than the profile's"),
            ("max_turns", "integer", "the most turns of the agent, instead of the profile's"),
            ("timeout", "integer", "how many seconds the agent may run, instead of the profile's"),
            ("labels", "object", "what you call it by, names and texts: list_jobs finds it by them"),
        ],
        required: &["task"],
        gives: ("job", "object"),
        is_read_only: false,
        is_destructive: true,
        is_idempotent: false,
        call: calls::run_task,
    },
    Tool {
        name: "get_job",
        title: "Look at a job",
        description: "Shows one job: its status (queued, running, succeeded, failed, cancelled, expired), what the \
             agent said at the end (output), its branch and pull request (pr_url), and why it failed \
             (error).",
        arguments: &[JOB_ID],
        required: &["job_id"],
        gives: ("job", "object"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: calls::get_job,
    },
    Tool {
        name: "wait_for_job",
        title: "Wait for a job's end",
        description: "Answers when the job has ended, with the job; at once if it has ended already. It asks for \
             nothing meanwhile. To give up waiting does not cancel the job: call it again, or use \
             get_job.",
        arguments: &[JOB_ID],
        required: &["job_id"],
        gives: ("job", "object"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: calls::wait_for_job,
    },
    Tool {
        name: "get_job_events",
        title: "Read what happened to a job",
        description: "What the agent of a job said and did so far, in order. To read on, call it again with after \
             set to the next of the answer; ended says that there is no more.",
        arguments: &[
            JOB_ID,
            ("after", "string", "the cursor after which to begin; none: from the begin"),
            ("limit", "integer", "how many events at most, 1 to 1000 (100)"),
        ],
        required: &["job_id"],
        gives: ("events", "array"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: calls::get_job_events,
    },
    Tool {
        name: "get_job_diff",
        title: "Read what a job changed",
        description: "What a job that has ended changed, as a diff: of what it published, or of what was kept of it. \
             cut says that the diff is longer than what is shown. To judge the work before anybody merges \
             it.",
        arguments: &[JOB_ID],
        required: &["job_id"],
        gives: ("diff", "string"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: calls::get_job_diff,
    },
    Tool {
        name: "list_jobs",
        title: "List jobs",
        description: "Lists jobs, newest first. Long tasks and outputs are cut: get_job shows all of one.",
        arguments: &[
            ("limit", "integer", "how many, 1 to 1000 (20)"),
            ("status", "string", "only queued, running, succeeded, failed, cancelled or expired ones"),
            ("repo", "string", "only of this repository: its URL, or the end of its path: you/project"),
            ("label", "string", "only with this label: NAME=VALUE"),
            ("q", "string", "only with this text in the task, error, note, branch or labels"),
            ("after", "string", "older ones: the next of the answer before"),
        ],
        required: &[],
        gives: ("jobs", "array"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: calls::list_jobs,
    },
    Tool {
        name: "retry_job",
        title: "Retry a job",
        description: "Submits the request of a job that has ended once more, as a new job with an id of its own \
             (retry_of names the earlier one). For a job that failed for a reason that may have passed, \
             such as a remote that was away. If the task itself has to be said better, use run_task.",
        arguments: &[JOB_ID, ("wait", "boolean", "answer when the new job has ended (false)")],
        required: &["job_id"],
        gives: ("job", "object"),
        is_read_only: false,
        is_destructive: true,
        is_idempotent: false,
        call: calls::retry_job,
    },
    Tool {
        name: "resume_job",
        title: "Go on with a job",
        description: "Goes on with the conversation of a job that has ended, and with its work: a new job in the same \
             repository, from the branch that it pushed, or with the files that were kept of it. For what \
             is to be done differently, or is still missing; the agent knows what it did before.",
        arguments: &[
            JOB_ID,
            ("task", "string", "what the agent is told now, in whole sentences"),
            ("wait", "boolean", "answer when the new job has ended (false)"),
        ],
        required: &["job_id", "task"],
        gives: ("job", "object"),
        is_read_only: false,
        is_destructive: true,
        is_idempotent: false,
        call: calls::resume_job,
    },
    Tool {
        name: "cancel_job",
        title: "Cancel a job",
        description: "Cancels a queued or running job and ends its agent. What the agent did so far is not \
             published. A job that has ended stays as it is, and that is said.",
        arguments: &[JOB_ID],
        required: &["job_id"],
        gives: ("job", "object"),
        is_read_only: false,
        is_destructive: true,
        is_idempotent: true,
        call: calls::cancel_job,
    },
    Tool {
        name: "list_profiles",
        title: "List execution profiles",
        description: "Lists the execution profiles that run_task can use: which model, what the agent may do, \
             whether a pull request is opened.",
        arguments: &[],
        required: &[],
        gives: ("profiles", "array"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: calls::list_profiles,
    },
    Tool {
        name: "plan_task",
        title: "Plan a coding task",
        description: "Hands a task to an agent that only reads the repository and writes a plan; it changes \
             nothing and opens no pull request. Returns the plan at once, queued; get_plan shows it, and \
             its text once status is ready. With wait the answer comes when the plan is ready. When you, \
             or a person, have read it, execute_plan carries it out. For a task whose way is not clear; \
             for a clear one use run_task.",
        arguments: &[
            ("task", "string", "what is to be planned, in whole sentences"),
            ("repo_url", "string", "the repository: https://…, ssh://… or git@host:path; none: an empty directory"),
            ("wait", "boolean", "answer when the plan is ready, or failed (false)"),
            ("file_path", "string", "a .mcp.json on the server whose MCP servers the agent gets as well"),
            ("base_ref", "string", "branch, tag or commit to plan for; none: the repository's default branch"),
        ],
        required: &["task"],
        gives: ("plan", "object"),
        is_read_only: false,
        is_destructive: false,
        is_idempotent: false,
        call: calls::plan_task,
    },
    Tool {
        name: "get_plan",
        title: "Look at a plan",
        description: "Shows one plan: its status (queued, running, ready, failed), its text (plan) once it is \
             ready, the commit it was made for, and the job that carries it out, if there is one \
             (job_id).",
        arguments: &[PLAN_ID],
        required: &["plan_id"],
        gives: ("plan", "object"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: calls::get_plan,
    },
    Tool {
        name: "list_plans",
        title: "List plans",
        description: "Lists plans, newest first. Long tasks and plans are cut: get_plan shows all of one.",
        arguments: &[("limit", "integer", "how many, 1 to 1000 (20)")],
        required: &[],
        gives: ("plans", "array"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: calls::list_plans,
    },
    Tool {
        name: "execute_plan",
        title: "Carry out a plan",
        description: "Makes the one job that carries out a plan that is ready: at the commit that it was made for, \
             with the plan in its task. Called again, it returns the same job. Use wait_for_job or \
             get_job to see how it went.",
        arguments: &[
            PLAN_ID,
            ("repo_url", "string", "only for a plan without a repository: where to work"),
            ("profile", "string", "execution profile, see list_profiles; none: the server's default"),
            ("wait", "boolean", "answer when the job has ended (false)"),
            ("file_path", "string", "a .mcp.json on the server whose MCP servers this job gets as well"),
        ],
        required: &["plan_id"],
        gives: ("job", "object"),
        is_read_only: false,
        is_destructive: true,
        is_idempotent: true,
        call: calls::execute_plan,
    },
    Tool {
        name: "prepare_worktree",
        title: "Prepare a worktree",
        description: "Makes a checkout of a repository that stays, so that later jobs can begin in it at once, one \
             after the other, each going on with what the one before left: give its id to run_task as \
             worktree_id. Answers when it is there, with its path and the pod that has it. A single job \
             needs none: run_task makes a fresh one. Remove it with cleanup_worktrees when you are done.",
        arguments: &[
            ("repo_url", "string", "the repository: https://…, ssh://… or git@host:path"),
            ("base_ref", "string", "branch, tag or commit to begin at; none: the repository's default branch"),
        ],
        required: &["repo_url"],
        gives: ("worktree", "object"),
        is_read_only: false,
        is_destructive: false,
        is_idempotent: false,
        call: calls::prepare_worktree,
    },
    Tool {
        name: "get_worktree",
        title: "Look at a prepared worktree",
        description: "Shows one prepared worktree: where it is (pod, path), the commit it began at, and whether it \
             is ready or a job works in it (job_id).",
        arguments: &[WORKTREE_ID],
        required: &["worktree_id"],
        gives: ("worktree", "object"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: calls::get_worktree,
    },
    Tool {
        name: "list_worktrees",
        title: "List prepared worktrees",
        description: "Lists the prepared worktrees of all pods, newest first. A job's own worktree is none of \
             them.",
        arguments: &[],
        required: &[],
        gives: ("worktrees", "array"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: calls::list_worktrees,
    },
    Tool {
        name: "cleanup_worktrees",
        title: "Remove prepared worktrees",
        description: "Removes prepared worktrees. Without arguments only those that nobody has used for as long as \
             the server keeps them (a day). Never one that a job works in, or that holds work which is \
             published nowhere: those are named in kept, with the reason.",
        arguments: &[
            ("paths", "string", "ids or paths of prepared worktrees, separated by commas: these, however young"),
            ("max_age_hours", "integer", "those that nobody has used for so many hours"),
        ],
        required: &[],
        gives: ("removed", "array"),
        is_read_only: false,
        is_destructive: true,
        is_idempotent: true,
        call: calls::cleanup_worktrees,
    },
];
