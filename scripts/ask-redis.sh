#!/bin/sh
# redis-cli for the address in REDIS_URL (redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS): no password is
# in a list of processes. For backup.sh and restore.sh.
set -eu
command -v redis-cli >/dev/null || { echo "redis-cli is not here; install it" >&2; exit 1; }
url=${REDIS_URL:?}
case $url in redis://*) tls= ;; rediss://*) tls=--tls ;; *) echo "REDIS_URL must begin with redis:// or rediss://" >&2; exit 2 ;; esac
rest=${url#*://}
decoded() { printf '%b' "$(printf '%s' "$1" | sed 's/\\/\\\\/g; s/%\([0-9A-Fa-f][0-9A-Fa-f]\)/\\x\1/g')"; }
user=
case $rest in
  *@*)
    login=${rest%@*} rest=${rest##*@}
    case $login in *:*) user=${login%%:*} REDISCLI_AUTH=$(decoded "${login#*:}") ;; *) REDISCLI_AUTH=$(decoded "$login") ;; esac
    export REDISCLI_AUTH ;;
esac
case $rest in */*) database=${rest#*/} rest=${rest%%/*} ;; *) database=0 ;; esac
case $rest in *:*) host=${rest%:*} port=${rest##*:} ;; *) host=$rest port=6379 ;; esac
# shellcheck disable=SC2086
exec redis-cli -h "$host" -p "$port" -n "${database:-0}" $tls ${user:+--user "$user"} --no-auth-warning "$@"
