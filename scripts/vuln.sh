#!/usr/bin/env bash
# Known vulnerabilities in what is called of the dependencies and of Go itself.
# Exit code 0: none; 3: some; 2: nobody knows, for want of the tool or its database.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$root" || exit 2

tool=golang.org/x/vuln/cmd/govulncheck@v1.8.0
database=${GOVULNDB:-https://vuln.go.dev}

case $database in
http://* | https://*)
	if ! curl --silent --show-error --fail --location --max-time 20 --output /dev/null "${database%/}/index/db.json"; then
		printf 'NOT CHECKED: the database of vulnerabilities, %s, cannot be reached from here.\n' "$database" >&2
		printf 'Run this where it can be, or set GOVULNDB to a mirror of it (http://, https:// or file://).\n' >&2
		exit 2
	fi
	;;
esac
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Built apart: whatever goes wrong there says nothing of the code.
if ! GOBIN=$folder go install "$tool"; then
	printf 'NOT CHECKED: %s cannot be had.\n' "$tool" >&2
	exit 2
fi
"$folder/govulncheck" -db "$database" ./...
