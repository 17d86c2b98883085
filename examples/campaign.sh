#!/bin/sh -e
# Sends a text to everybody in a table and waits for the end: campaign.sh people.csv ACCOUNT_ID 'Hello {{name|friend}}'
: "${SWITCHBOARD_URL:=http://127.0.0.1:8080}" "${SWITCHBOARD_API_KEY:?make one with: switchboard apikey add --name mailing}" "${ONCE:=$(date +%s)-$$}" # the same ONCE again goes on, and makes nothing twice
api() { path=$1; shift; got=$(printf 'header = "Authorization: Bearer %s"' "$SWITCHBOARD_API_KEY" | curl -K - -sS --fail-with-body --retry 3 --retry-connrefused "$SWITCHBOARD_URL/api/v1/campaigns$path" "$@") || { printf '%s\n' "$got" >&2; exit 1; }; }
field() { printf %s "$got" | jq -rc "$1"; }
api "" -H 'Content-Type: application/json' -H "Idempotency-Key: $ONCE" -d "$(jq -n --arg a "$2" --arg t "$3" --arg n "${1##*/} $ONCE" '{name:$n, content:{text:$t}, steps:[{account_id:$a}]}')"
id=$(field .id); api "/$id"
[ "$(field .state)" != draft ] || { api "/$id/recipients" -H 'Content-Type: text/csv' -T "$1"; field '{accepted, rejected, duplicates, errors: .errors[:10]}'; api "/$id/start" -H "Idempotency-Key: $ONCE-start" -X POST; }
while field '[.state, .counts, .rate, .eta, .waiting]'; case $(field .state) in done) exit 0 ;; canceled) exit 1 ;; esac; do sleep 2; api "/$id"; done
