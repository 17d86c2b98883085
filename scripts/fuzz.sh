#!/usr/bin/env bash
# Every fuzz target for a bounded time (FUZZTIME, 2 s by default), one after
# another: decoders and splitters must take whatever the outside sends. What is
# found is written below testdata/fuzz of its package, to be kept as a seed.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$root" || exit 1

failed=0
while IFS=: read -r file line; do
	target=${line#func }
	target=${target%%(*}
	echo "$(dirname "$file") $target"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-2s}" -parallel 2 "./$(dirname "$file")" >"$cache/fuzz.log" 2>&1 || {
		cat "$cache/fuzz.log"
		failed=1
	}
done < <(grep -r --include=*_test.go --exclude-dir=.cache --exclude-dir=node_modules '^func Fuzz' . | sed "s,^\./,,")
exit $failed
