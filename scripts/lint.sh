#!/usr/bin/env bash
# Formatting and go vet; `make lint` adds golangci-lint where it is installed.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$root"

mapfile -t files < <(find . \( -path ./.git -o -path ./.cache -o -name node_modules -o -path ./data \) -prune -o -name '*.go' -print)
unformatted=$(gofmt -l "${files[@]}")
if [ -n "$unformatted" ]; then
	printf 'not formatted (gofmt -w):\n%s\n' "$unformatted" >&2
	exit 1
fi
go vet ./...
if [ "${1:-}" = all ] && command -v golangci-lint >/dev/null; then
	golangci-lint run ./...
fi
