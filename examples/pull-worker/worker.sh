#!/bin/sh
# A worker in plain shell: curl, sed and wc. `worker.sh <service url>`; its token, if it needs one, in MANYHOST_TOKEN.
# It checks in while it works, asks every 3 s, and answers with the number of words in "text".
url=$1
hub=${url%/services/*}
name="shell-$$"
auth=$(mktemp) && headers=$(mktemp) || exit 1
# The token goes by a file, because every user of this machine can read the arguments of curl.
[ -n "$MANYHOST_TOKEN" ] && printf 'Authorization: Bearer %s\n' "$MANYHOST_TOKEN" > "$auth"
call() { curl -sS -m 60 -H "@$auth" -H "X-Manyhost-Worker: $name" "$@"; }

(while :; do call -o /dev/null -X PATCH "$url"; sleep 10; done) &
beat=$!
trap 'kill $beat 2>/dev/null; rm -f "$auth" "$headers"' EXIT
trap 'exit 0' TERM INT

while :; do
  # With `-H 'Prefer: wait=30'` this would be a long poll. Without it, the worker asks again after a pause.
  job=$(call -D "$headers" "$url/next") || { sleep 3; continue; }
  if [ -z "$job" ]; then sleep "${POLL:-3}" & wait $!; continue; fi
  id=$(printf '%s' "$job" | sed -n 's/.*"data":{[^{]*"id":"\([0-9a-f-]*\)".*/\1/p')
  text=$(printf '%s' "$job" | sed -n 's/.*"parameters":{"text":"\([^"]*\)".*/\1/p')
  lease=$(sed -n 's/^x-manyhost-lease: *\([^[:space:]]*\).*/\1/Ip' "$headers")
  words=$(printf '%s' "$text" | wc -w)
  call -o /dev/null -X PATCH "$hub/jobs/$id" -H 'Content-Type: application/json' -H "X-Manyhost-Lease: $lease" \
    -d "{\"status\":\"COMPLETED\",\"results\":{\"words\":$((words)),\"by\":\"$name\"}}"
done
