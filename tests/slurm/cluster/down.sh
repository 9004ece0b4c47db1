#!/bin/bash
# Stop the daemons that up.sh noted, the newest first, and nothing else.
BASE=${1:?"usage: down.sh FOLDER"}
status=0
while read -r name pid; do
  [ -n "$pid" ] && [ -d "/proc/$pid" ] || continue
  case "$name" in "$(cat "/proc/$pid/comm")"*) ;; *) echo "$pid is no longer $name" >&2; continue ;; esac
  kill -TERM "$pid"
  for _ in $(seq 100); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
  if [ -d "/proc/$pid" ]; then echo "$name $pid is still up" >&2; status=1; fi
done < <(tac "$BASE/run/pids" 2> /dev/null)
: > "$BASE/run/pids"
exit $status
