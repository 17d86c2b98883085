#!/bin/sh -e
# Sends a text to everybody in a table and waits for the end: campaign.sh people.csv ACCOUNT_ID 'Hello {{name|friend}}'
: "${SWITCHBOARD_URL:=http://127.0.0.1:8080}" "${SWITCHBOARD_API_KEY:?make one with: switchboard apikey add --name mailing}"
api() { path=$1; shift; got=$(curl -sS --fail-with-body --retry 3 --retry-connrefused -H "Authorization: Bearer $SWITCHBOARD_API_KEY" "$SWITCHBOARD_URL/api/v1/campaigns$path" "$@") || { printf '%s\n' "$got" >&2; exit 1; }; }
once=$(date +%s)-$$ # the same key again makes nothing twice
api "" -H 'Content-Type: application/json' -H "Idempotency-Key: $once" -d "$(jq -n --arg a "$2" --arg t "$3" --arg n "${1##*/} $once" '{name:$n, content:{text:$t}, steps:[{account_id:$a}]}')"
id=$(printf %s "$got" | jq -r .id)
api "/$id/recipients" -H 'Content-Type: text/csv' -T "$1"; printf %s "$got" | jq -c '{accepted, rejected, duplicates, errors: .errors[:10]}'
api "/$id/start" -H "Idempotency-Key: $once-start" -X POST
until api "/$id"; printf %s "$got" | jq -c '[.state, .counts, .rate, .eta]'; printf %s "$got" | jq -e '.state | IN("done", "canceled")' >/dev/null; do sleep 2; done
