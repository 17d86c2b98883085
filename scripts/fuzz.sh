#!/usr/bin/env bash
# Every fuzz target for a bounded time (FUZZTIME, 2 s by default), one after
# another: decoders and splitters must take whatever the outside sends. What is
# found is written below testdata/fuzz of its package, to be kept as a seed.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$root" || exit 1

fuzz() {
	go test -run '^$' -fuzz "^$2\$" -fuzztime "${FUZZTIME:-2s}" -parallel 2 "./$(dirname "$1")" >"$cache/fuzz.log" 2>&1
}

failed=0
while IFS=: read -r file line; do
	target=${line#func }
	target=${target%%(*}
	echo "$(dirname "$file") $target"
	# A worker of the fuzzer that is late at the end of the time fails the target
	# without a finding; once more tells.
	fuzz "$file" "$target" || { ! grep -q 'Failing input written' "$cache/fuzz.log" && fuzz "$file" "$target"; } || {
		cat "$cache/fuzz.log"
		failed=1
	}
done < <(grep -r --include=*_test.go --exclude-dir=.cache --exclude-dir=node_modules '^func Fuzz' . | sed "s,^\./,,")
exit $failed
