# bash completion of agenticore. `source <(agenticore completions bash)`, or in a file of
# ~/.local/share/bash-completion/completions/ called agenticore.
_agenticore() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command='' words='' values='' word
  local chosen=''
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in -*) ;; *) command=$word; break ;; esac
  done
  case $command in
    '') words="serve run jobs watch open diff job logs cancel retry resume plan plans execute-plan drain doctor profiles mcp status webhooks hooks init-shared-fs key init config completions man version --help --version" ;;
    serve) words="--host --port --help" values="|--host|--port|" ;;
    run) words="--repo --profile --model --max-turns --timeout --task-file --base-ref --session-id --file-path --create-repo --private --public --wait --detach --local --label --webhook-url --idempotency-key --json --server --help" values="|-r|--repo|-p|--profile|--model|--max-turns|--timeout|--task-file|--base-ref|--session-id|--file-path|--label|--webhook-url|--idempotency-key|--server|" ;;
    jobs) words="--limit --status --repo --profile --branch --label --submitted-by --mine --since --search --after --watch --json --server --help" values="|-n|--limit|-s|--status|-r|--repo|-p|--profile|--branch|--label|--submitted-by|--since|-q|--search|--after|--server|" ;;
    watch) words="--limit --status --repo --label --mine --server --help" values="|-n|--limit|-s|--status|-r|--repo|--label|--server|" ;;
    open) words="--server --help" values="|--server|" ;;
    diff) words="--json --server --help" values="|--server|" ;;
    job) words="--json --server --help" values="|--server|" ;;
    logs) words="--follow --since --json --server --help" values="|--since|--server|" ;;
    cancel) words="--json --server --help" values="|--server|" ;;
    retry) words="--wait --idempotency-key --json --server --help" values="|--idempotency-key|--server|" ;;
    resume) words="--wait --idempotency-key --json --server --help" values="|--idempotency-key|--server|" ;;
    plan) words="--repo --base-ref --file-path --wait --idempotency-key --json --server --help" values="|-r|--repo|--base-ref|--file-path|--idempotency-key|--server|" ;;
    plans) words="--limit --json --server --help" values="|-n|--limit|--server|" ;;
    execute-plan) words="--repo --profile --file-path --wait --json --server --help" values="|-r|--repo|-p|--profile|--file-path|--server|" ;;
    drain) words="--timeout --cancel --json --server --help" values="|--timeout|--server|" ;;
    doctor) words="--fix --cluster --discard --json --help" values="|--discard|" ;;
    profiles) words="--json --server --help" values="|--server|" ;;
    mcp) words="--server --help" values="|--server|" ;;
    status) words="--alive --wait --json --server --help" values="|--wait|--server|" ;;
    webhooks) words="--retry --json --server --help" values="|--server|" ;;
    hooks) words="sync --target --url --json --help" values="|--target|--url|" ;;
    init-shared-fs) words="--shared-root --json --help" values="|--shared-root|" ;;
    key) words="new --scope --expires --max-queued --json --help" values="|--scope|--expires|--max-queued|" ;;
    init) words="--profile --model --jobs --port --no-pull-requests --yes --help" values="|-p|--profile|--model|--jobs|--port|" ;;
    config) words="--json --help" values="|-|" ;;
    completions) words="bash zsh fish --help" values="|-|" ;;
    man) words="--help" values="|-|" ;;
    version) words="--help" values="|-|" ;;
  esac
  case "$command $before" in
    'jobs -s' | 'jobs --status') chosen="queued running succeeded failed cancelled expired" ;;
    'watch -s' | 'watch --status') chosen="queued running succeeded failed cancelled expired" ;;
    'hooks --target') chosen="all agentihooks bundle" ;;
    'key --scope') chosen="read submit admin" ;;
  esac
  COMPREPLY=()
  if [[ $chosen ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$chosen" -- "$current")
    return
  fi
  # What a flag takes is the shell's to complete: a file, or nothing.
  case $values in *"|$before|"*) return ;; esac
  case $command:$current in
    :* | *:-* | hooks:* | key:* | completions:*) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current") ;;
  esac
}
complete -o default -F _agenticore agenticore
