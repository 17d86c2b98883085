#!/usr/bin/env bash
# Installs what is missing to build and run Switchboard on Debian or Ubuntu, and
# nothing else:
#
#	scripts/setup.sh build|run|test|bench|chaos
#
# What the machine has is used. What apt has comes from apt; the rest comes from
# the Go module proxy and the npm registry, by their own clients, into .cache/.
# With nothing missing this takes a fraction of a second.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"

# What is fetched when the machine has no Go that go.mod accepts.
go_fetch=1.26.8
# Node: the oldest that the web build accepts, and what is fetched instead.
node_least=20.19.0
node_fetch=22.23.3
npm_fetch=10.9.9
# A headless Chromium from npm, for machines whose apt has none (Ubuntu's is a
# snap).
chromium_fetch=147.0.0

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# at_least A B: version A is B or later.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$2" ]; }

# ---- what is there ---------------------------------------------------------

# The oldest that go.mod accepts.
go_least=$(sed -n 's/^go //p' "$root/go.mod")

# go_version GO: 1.26.8, or nothing if it does not run. Run outside of the module,
# whose go line an older one refuses.
go_version() { (cd / && GOFLAGS='' "$1" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p'); }

go_ok() {
	local version
	have "$1" || return 1
	version=$(go_version "$1")
	[ -n "$version" ] && at_least "$version" "$go_least"
}

node_ok() {
	local version
	have node && have npm || return 1
	version=$(node --version 2>/dev/null) && at_least "${version#v}" "$node_least"
}

postgres_ok() {
	local dir
	for dir in /usr/lib/postgresql/*/bin; do
		[ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && return 0
	done
	have initdb && have postgres
}

gcc_ok() { have gcc && [ -e /usr/include/stdlib.h ]; }

zookeeper_ok() { [ -e /usr/share/java/zookeeper.jar ] && have java; }

# The browser's path, if there is one. Ubuntu's /usr/bin/chromium-browser is a
# script that asks for a snap.
chromium_path() {
	local name
	for name in "${CHROMIUM:-}" chromium google-chrome-stable google-chrome "$cache/bin/chromium"; do
		if [ -n "$name" ] && have "$name"; then
			command -v "$name"
			return 0
		fi
	done
	return 1
}

s3server_ok() { [ "$cache/bin/versitygw" -nt "$root/tools/s3server/go.sum" ]; }

# ---- apt -------------------------------------------------------------------

packages=()
reasons=()

# want PACKAGES REASON
want() {
	local package
	for package in $1; do packages+=("$package"); done
	reasons+=("$(printf '  %-45s %s' "$1" "$2")")
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif have sudo; then
		sudo "$@"
	else
		die "this needs root, and there is no sudo: $*"
	fi
}

apt_updated=
apt_update() {
	[ -z "$apt_updated" ] || return 0
	apt_updated=yes
	as_root apt-get update -qq >&2 || say "apt-get update failed; trying with the lists at hand"
}

apt_install() {
	local log=$cache/apt.log
	mkdir -p "$cache"
	if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		-o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@" >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		die "apt-get could not install them; all it said is in $log"
	fi
}

install_packages() {
	[ ${#packages[@]} -gt 0 ] || return 0
	say "missing, and installed now with apt-get (a minute or two):"
	printf '%s\n' "${reasons[@]}" >&2
	have apt-get || die "there is no apt-get here; install their like by hand and come back"
	apt_update
	case " ${packages[*]} " in
	*" postgresql "*)
		# Only the programs: no server of its own on port 5432. A machine that has
		# clusters keeps its ways.
		if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
			as_root mkdir -p /etc/postgresql-common
			echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
		fi
		;;
	esac
	apt_install "${packages[@]}"
}

# ---- what comes from elsewhere ---------------------------------------------

# The Go module proxy has whole toolchains, and even an old go can fetch from it.
fetch_go() {
	local arch version tmp dir
	case $(uname -m) in
	x86_64) arch=amd64 ;;
	aarch64) arch=arm64 ;;
	*) die "Go $go_least is needed, and can't be fetched for $(uname -m): install it by hand" ;;
	esac
	version=$go_fetch
	at_least "$version" "$go_least" || version=$go_least
	say "fetching Go $version from the Go module proxy: go.mod asks for $go_least, the machine has $(go_version "$1")"
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/go-fetch.XXXXXX")
	# A module of its own, because an old go can't read ours.
	echo 'module fetch' >"$tmp/go.mod"
	# The checksum database vouches for what comes.
	(cd "$tmp" && GO111MODULE=on GOFLAGS='' GOPATH=$tmp/path GOMODCACHE=$tmp/path/pkg/mod "$1" mod download -json \
		"golang.org/toolchain@v0.0.1-go$version.linux-$arch" >"$tmp/answer") || die "no Go $version: $(cat "$tmp/answer")"
	dir=$tmp/path/pkg/mod/golang.org/toolchain@v0.0.1-go$version.linux-$arch
	chmod -R u+w "$tmp"
	# A go before 1.21 does not know that these are programs.
	chmod -R +x "$dir/bin" "$dir/pkg/tool"
	rm -rf "$cache/go-$version"
	mv "$dir" "$cache/go-$version"
	rm -rf "$tmp"
	ln -sfn "go-$version" "$cache/go"
	go_ok "$cache/go/bin/go" || die "the fetched Go does not run"
}

ensure_go() {
	local go
	# sudo and cron know no /usr/local/go.
	for go in go /usr/local/go/bin/go /usr/lib/go/bin/go; do
		if go_ok "$go"; then
			if [ "$go" != go ]; then
				mkdir -p "$cache"
				ln -sfn "${go%/bin/go}" "$cache/go"
			fi
			return 0
		fi
	done
	for go in go /usr/local/go/bin/go; do
		if have "$go" && [ -n "$(go_version "$go")" ]; then
			fetch_go "$go"
			return 0
		fi
	done
	die "no Go, and apt-get brought none"
}

ensure_node() {
	local arch
	node_ok && return 0
	have npm || die "no npm, and apt-get brought none"
	case $(uname -m) in
	x86_64) arch=x64 ;;
	aarch64) arch=arm64 ;;
	*) die "Node $node_least is needed, and can't be fetched for $(uname -m): install it by hand" ;;
	esac
	say "fetching Node $node_fetch from the npm registry: the web build needs $node_least, the machine has $(node --version || echo none)"
	mkdir -p "$cache/node"
	echo '{"private": true}' >"$cache/node/package.json"
	(cd "$cache/node" && npm install --no-audit --no-fund --loglevel=error "node-linux-$arch@$node_fetch" "npm@$npm_fetch" >&2)
	ln -sfn "../node-linux-$arch/bin/node" "$cache/node/node_modules/.bin/node"
	hash -r
	node_ok || die "the fetched Node does not run"
}

ensure_chromium() {
	chromium_path >/dev/null && return 0
	say "fetching a headless Chromium from the npm registry: the browser tests need one, and apt has none"
	mkdir -p "$cache/chromium/tmp"
	echo '{"private": true}' >"$cache/chromium/package.json"
	(
		cd "$cache/chromium"
		npm install --no-audit --no-fund --loglevel=error "@sparticuz/chromium@$chromium_fetch" >&2
		# It unpacks itself into the temporary folder.
		TMPDIR=$cache/chromium/tmp node --input-type=module -e \
			'import c from "@sparticuz/chromium"; c.setGraphicsMode = false; await c.executablePath()'
	)
	mkdir -p "$cache/bin"
	ln -sfn ../chromium/tmp/chromium "$cache/bin/chromium"
	chromium_path >/dev/null || die "the fetched Chromium is incomplete"
}

ensure_s3server() {
	s3server_ok && return 0
	say "building an S3 server for the tests (versitygw, under a minute the first time)"
	mkdir -p "$cache/bin"
	(cd "$root/tools/s3server" && CGO_ENABLED=0 go build -buildvcs=false -o "$cache/bin/versitygw" github.com/versity/versitygw/cmd/versitygw)
	touch "$cache/bin/versitygw"
}

# ---- what is asked for -----------------------------------------------------

goal=${1:-}
case $goal in
build | run | test | bench | chaos) ;;
*)
	echo "usage: scripts/setup.sh build|run|test|bench|chaos" >&2
	exit 2
	;;
esac

need_chromium=
need_s3server=

if ! have go && [ ! -x /usr/local/go/bin/go ]; then
	want golang-go "Go, to build (or to fetch a newer Go with)"
fi
if ! have node; then
	want nodejs "Node, to build the web desk"
fi
if ! have npm; then
	want npm "npm, to build the web desk"
fi
if [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then
	want ca-certificates "to verify what is fetched"
fi
if [ "$goal" != build ]; then
	postgres_ok || want postgresql "the database, which Switchboard runs itself (no service, no port)"
fi
if [ "$goal" = test ] || [ "$goal" = bench ] || [ "$goal" = chaos ]; then
	zookeeper_ok || want "default-jre-headless zookeeper" "ZooKeeper, which tests start and stop (no service)"
	s3server_ok || need_s3server=yes
fi
if [ "$goal" = test ]; then
	gcc_ok || want "gcc libc6-dev" "a C compiler, for Go's race detector"
	for program in curl jq python3; do
		have "$program" || want "$program" "what the scripts in examples/ are written for: they are tested"
	done
	if ! chromium_path >/dev/null; then
		need_chromium=yes
		if have apt-get; then
			apt_update
			if [ "$(. /etc/os-release && echo "$ID")" != ubuntu ] && apt-cache show chromium >/dev/null 2>&1; then
				want chromium "a browser, for the browser tests"
			else
				want "libnss3 libnspr4" "libraries of a browser, for the browser tests"
			fi
		fi
	fi
fi

install_packages
ensure_go
ensure_node
[ -z "$need_chromium" ] || ensure_chromium
[ -z "$need_s3server" ] || ensure_s3server
