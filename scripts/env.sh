# Sourced by the other scripts: where things are, and which programs come first.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache

# What setup.sh fetched goes before what the machine has.
export PATH="$cache/bin:$cache/go/bin:$cache/node/node_modules/.bin:$PATH"
# The toolchain is chosen by setup.sh, and not again by go.
export GOTOOLCHAIN=local
# A checkout that belongs to another user would stop the build otherwise.
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"
