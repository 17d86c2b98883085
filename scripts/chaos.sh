#!/usr/bin/env bash
# Runs TestChaos for DURATION (10m) with SEED (drawn when empty): the distributed
# set under load while faults are injected. Prints its log and a summary; the exit
# code is not 0 when a promise was broken.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$root"
mkdir -p "$cache/bin"
go test -c -o "$cache/bin/chaos.test" ./cmd/switchboard
cd cmd/switchboard
export SWITCHBOARD_CHAOS=${DURATION:-10m} SWITCHBOARD_CHAOS_SEED=${SEED:-}
exec "$cache/bin/chaos.test" -test.run '^TestChaos$' -test.count 1 -test.timeout 2h
