#compdef agenticore
# zsh completion of agenticore, for a file called _agenticore in a directory of $fpath.
_agenticore() {
  local -a commands
  commands=(
    'serve:start the server (also without any command)'
    'run:submit a job, or run it right here with --local'
    'jobs:list jobs'
    'watch:watch the server and its jobs'
    'open:open a job'\''s pull request, or the job on the server'\''s page'
    'diff:show what a job changed'
    'job:show one job'
    'logs:show what happened to a job, and follow it'
    'cancel:cancel jobs'
    'retry:submit the requests of ended jobs again'
    'resume:go on with an ended job'\''s conversation, and with its work'
    'plan:have a task planned, and nothing changed'
    'plans:list plans'
    'execute-plan:carry a plan out'
    'drain:empty this pod before it goes'
    'doctor:prove that everything is as it should be'
    'profiles:list execution profiles'
    'mcp:let an MCP client on this machine use a server elsewhere'
    'status:is the server well?'
    'webhooks:list who is still to be told of jobs, and who could not be'
    'hooks:fetch the checkouts of agentihooks and of a bundle again'
    'init-shared-fs:prepare and try a volume that servers share'
    'key:make an API key, and the line by which a server knows it'
    'init:write a first config.yml and a profile'
    'config:show the settings and where they came from'
    'completions:print what bash, zsh or fish completes after `agenticore`'
    'man:print the manual page'
    'version:print the version'
  )
  local state line
  _arguments -C '(-h --help)'{-h,--help}'[say what it does]' '(-V --version)'{-V,--version}'[print the version]' \
    '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands ;;
    argument)
      case $line[1] in
        serve) _arguments '--host=[listen here (AGENTICORE_HOST, 127.0.0.1)]:ADDRESS:_files' '--port=[and on this port (AGENTICORE_PORT, 8200)]:PORT:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        run) _arguments '--repo=[repository\: https\://, ssh\://, git@HOST\:PATH, or a directory]:URL:_files' '-r+[repository\: https\://, ssh\://, git@HOST\:PATH, or a directory]:URL:_files' '--profile=[execution profile (see `agenticore profiles`)]:NAME:_files' '-p+[execution profile (see `agenticore profiles`)]:NAME:_files' '--model=[another model than the profile'\''s]:NAME:_files' '--max-turns=[the most turns of the agent, instead of the profile'\''s]:COUNT:_files' '--timeout=[how long the agent may run, instead of the profile'\''s; to 86400]:SECONDS:_files' '--task-file=[a file that holds what Claude is told, in place of TASK]:FILE:_files' '--base-ref=[branch, tag or commit to begin at (the remote'\''s default branch)]:NAME:_files' '--session-id=[go on with an earlier job'\''s Claude session]:ID:_files' '--file-path=[a .mcp.json whose servers this job gets as well]:FILE:_files' '--create-repo[make the GitHub repository if it is not there]' '--private[… as a private one (the default)]' '--public[… as a public one]' '--wait[wait for the end]' '-w[wait for the end]' '--detach[do not wait for the end (the default)]' '-d[do not wait for the end (the default)]' '--local[run it in this very process, without a server, and show its progress]' '--label=[what you call it by; more than one may be given]:NAME=VALUE:_files' '--webhook-url=[where its end is told]:URL:_files' '--idempotency-key=[sent again with the same key, it is the same job]:KEY:_files' '--json[print the job'\''s record as JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        jobs) _arguments '--limit=[how many, 1 to 1000 (20)]:LIMIT:_files' '-n+[how many, 1 to 1000 (20)]:LIMIT:_files' '--status=[queued, running, succeeded, failed, cancelled or expired ones alone]:STATUS:(queued running succeeded failed cancelled expired)' '-s+[queued, running, succeeded, failed, cancelled or expired ones alone]:STATUS:(queued running succeeded failed cancelled expired)' '--repo=[of this repository\: its URL, or the end of its path\: you/project]:REPO:_files' '-r+[of this repository\: its URL, or the end of its path\: you/project]:REPO:_files' '--profile=[of this profile]:NAME:_files' '-p+[of this profile]:NAME:_files' '--branch=[on this branch]:NAME:_files' '--label=[with this label; more than one may be given]:NAME=VALUE:_files' '--submitted-by=[handed in with the API key of this name]:KEY:_files' '--mine[handed in with the key that asks]' '--since=[not older than 90m, 12h, 3d, a date or a time of RFC 3339]:WHEN:_files' '--search=[with this text in the task, error, note, branch or labels]:TEXT:_files' '-q+[with this text in the task, error, note, branch or labels]:TEXT:_files' '--after=[older ones than a list before, which prints this]:CURSOR:_files' '--watch[show them until Ctrl-C, drawn again when a job changes]' '--json[print a JSON array]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        watch) _arguments '--limit=[how many, 1 to 1000 (20); as many as fit are shown]:LIMIT:_files' '-n+[how many, 1 to 1000 (20); as many as fit are shown]:LIMIT:_files' '--status=[queued, running, succeeded, failed, cancelled or expired ones alone]:STATUS:(queued running succeeded failed cancelled expired)' '-s+[queued, running, succeeded, failed, cancelled or expired ones alone]:STATUS:(queued running succeeded failed cancelled expired)' '--repo=[of this repository\: its URL, or the end of its path\: you/project]:REPO:_files' '-r+[of this repository\: its URL, or the end of its path\: you/project]:REPO:_files' '--label=[with this label; more than one may be given]:NAME=VALUE:_files' '--mine[handed in with the key that asks]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        open) _arguments '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        diff) _arguments '--json[print JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        job) _arguments '--json[print a JSON object]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        logs) _arguments '--follow[go on until the job has ended]' '-f[go on until the job has ended]' '--since=[only what happened after this event, as --json shows its cursor]:CURSOR:_files' '--json[print each event as JSON, one a line]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        cancel) _arguments '--json[print JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        retry) _arguments '--wait[wait for the end]' '-w[wait for the end]' '--idempotency-key=[sent again with the same key, it is the same job]:KEY:_files' '--json[print the new job'\''s record as JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        resume) _arguments '--wait[wait for the end]' '-w[wait for the end]' '--idempotency-key=[sent again with the same key, it is the same job]:KEY:_files' '--json[print the job'\''s record as JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        plan) _arguments '--repo=[repository to plan for\: https\://, ssh\:// or git@HOST\:PATH]:URL:_files' '-r+[repository to plan for\: https\://, ssh\:// or git@HOST\:PATH]:URL:_files' '--base-ref=[branch, tag or commit to plan for (the remote'\''s default branch)]:NAME:_files' '--file-path=[a .mcp.json whose servers the agent gets as well]:FILE:_files' '--wait[wait for the plan]' '-w[wait for the plan]' '--idempotency-key=[sent again with the same key, it is the same plan]:KEY:_files' '--json[print the plan as JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        plans) _arguments '--limit=[how many, 1 to 1000 (20)]:LIMIT:_files' '-n+[how many, 1 to 1000 (20)]:LIMIT:_files' '--json[print a JSON array]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        execute-plan) _arguments '--repo=[where to work, for a plan without a repository]:URL:_files' '-r+[where to work, for a plan without a repository]:URL:_files' '--profile=[execution profile (see `agenticore profiles`)]:NAME:_files' '-p+[execution profile (see `agenticore profiles`)]:NAME:_files' '--file-path=[a .mcp.json whose servers this job gets as well]:FILE:_files' '--wait[wait for the end]' '-w[wait for the end]' '--json[print the job'\''s record as JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        drain) _arguments '--timeout=[what running jobs get (300); less than what Kubernetes gives]:SECONDS:_files' '--cancel[take it back\: jobs are begun again]' '--json[say at the end how it went as JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        doctor) _arguments '--fix[repair what can be repaired without risk]' '--cluster[look at the whole fleet\: pods, what scales them, the volume, jobs that wait]' '--discard=[remove this job'\''s worktree; says first what is lost]:ID:_files' '--json[print the findings as a JSON array]' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        profiles) _arguments '--json[print JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        mcp) _arguments '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        status) _arguments '--alive[say nothing, ask whether it answers\: a health check without a shell]' '--wait=[wait until it takes jobs in, for so long at most]:SECONDS:_files' '--json[print JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        webhooks) _arguments '--retry[try them again]' '--json[print JSON]' '--server=[the server, if not the one at AGENTICORE_URL]:URL:_files' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        hooks) _arguments '--target=[all (the default), agentihooks or bundle]:WHICH:(all agentihooks bundle)' '--url=[fetch this repository instead of the configured one]:URL:_files' '--json[print JSON]' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '1::argument:(sync)' '*::argument:' ;;
        init-shared-fs) _arguments '--shared-root=[the volume (AGENTICORE_SHARED_FS_ROOT)]:PATH:_files' '--json[print JSON]' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        key) _arguments '--scope=[read, submit (the default) or admin; each holds those before it]:SCOPE:(read submit admin)' '--expires=[until when it is good, such as 2027-01-31]:DATE:_files' '--max-queued=[the most of its jobs that may wait at once]:COUNT:_files' '--json[print JSON]' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '1::argument:(new)' '*::argument:' ;;
        init) _arguments '--profile=[what the profile is called (own)]:NAME:_files' '-p+[what the profile is called (own)]:NAME:_files' '--model=[its model (sonnet)]:NAME:_files' '--jobs=[how many jobs run at once (3; about 320 MiB each)]:COUNT:_files' '--port=[where the server listens (8200)]:PORT:_files' '--no-pull-requests[publish nothing\: the work stays in its worktree]' '--yes[ask nothing]' '-y[ask nothing]' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        config) _arguments '--json[print JSON]' '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        completions) _arguments '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '1::argument:(bash zsh fish)' '*::argument:' ;;
        man) _arguments '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
        version) _arguments '--help[say what it does, and with which flags]' '-h[say what it does, and with which flags]' '*::argument:_files' ;;
      esac ;;
  esac
}
compdef _agenticore agenticore
