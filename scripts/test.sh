#!/usr/bin/env bash
# All tests, after `make test` has installed and built what they need. Every part
# runs even if an earlier one failed; the summary at the end names each, and the
# exit code is not 0 if one failed.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$root" || exit 1

summary=()
failed=0
group= # of the part that runs now

# Each part runs in a process group of its own, so that whatever it started ends
# with it, also when it failed or when we are told to stop. Postgres and ZooKeeper
# leave the group and die with their owners.
set -m

end_group() {
	[ -n "$group" ] || return 0
	local i
	kill -TERM -- "-$group" 2>/dev/null || { group= && return 0; }
	for ((i = 0; i < 100; i++)); do
		kill -0 -- "-$group" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL -- "-$group" 2>/dev/null
	group=
}

interrupted() {
	trap - INT TERM HUP
	echo "interrupted: ending what was started" >&2
	end_group
	exit 130
}
trap interrupted INT TERM HUP
trap end_group EXIT

# part NAME COMMAND...
part() {
	local name=$1 start=$SECONDS code=0
	shift
	printf '\n== %s\n' "$name"
	"$@" </dev/null &
	group=$!
	wait "$group" || code=$?
	end_group
	if [ "$code" = 0 ]; then
		summary+=("$(printf 'ok    %-28s %4d s' "$name" $((SECONDS - start)))")
	else
		summary+=("$(printf 'FAIL  %-28s %4d s  exit code %d' "$name" $((SECONDS - start)) "$code")")
		failed=1
	fi
}

go_tests() {
	go build -buildvcs=false -o "$cache/bin/withpostgres" ./internal/dbtest/withpostgres || return
	# One Postgres for all packages. Tests wait more than they compute, so four at once
	# also on two cores. The limit is for a package on two busy cores.
	exec "$cache/bin/withpostgres" go test -race -shuffle=on -parallel 4 -timeout 20m ./...
}

npm_run() {
	cd web && exec npm run --silent "$1"
}

SWITCHBOARD_BIN=$root/bin/switchboard
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v google-chrome-stable || command -v google-chrome || true)}
export SWITCHBOARD_BIN CHROMIUM

part "formatting, go vet" scripts/lint.sh
part "Go tests (race detector)" go_tests
# The same faults in the same order each time: a change is judged, not chance.
part "chaos, 3 minutes" env DURATION=3m SEED=1 scripts/chaos.sh
part "fuzz targets, 2 s each" scripts/fuzz.sh
part "web unit tests" npm_run test
part "browser tests" npm_run e2e

printf '\n== Summary\n'
printf '%s\n' "${summary[@]}"
exit $failed
