#!/bin/sh
# Makes .env for docker-compose.yml: .env.example with new secrets filled in. An
# existing .env is left alone, because it holds the only copy of the master key.
set -eu
cd "$(dirname "$0")/.."
umask 077
set -C # no overwriting

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

sed -e "s|^POSTGRES_PASSWORD=\$|&$(random 24)|" \
	-e "s|^S3_ACCESS_KEY=\$|&$(random 10)|" \
	-e "s|^S3_SECRET_KEY=\$|&$(random 24)|" \
	-e "s|^SWITCHBOARD_MASTER_KEY=\$|&$(head -c 32 /dev/urandom | base64)|" \
	.env.example >"${1:-.env}"
