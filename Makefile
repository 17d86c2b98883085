# Run `make` for the list of commands.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# What scripts/setup.sh fetched goes before what the machine has.
export PATH := $(CURDIR)/.cache/bin:$(CURDIR)/.cache/go/bin:$(CURDIR)/.cache/node/node_modules/.bin:$(PATH)
export GOTOOLCHAIN := local

# No version control stamp: it stops the build in a checkout of another user.
GO_BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false

# Every file that may end up in the binary. Folders count as well: their time
# changes when a file is removed.
WEB_INPUT = $(shell find web \( -name node_modules -o -path web/dist -o -name test-results -o -name playwright-report \) -prune -o -type f ! -name '*.go' -print)
GO_FOLDERS = $(filter-out bin/ data/ scripts/ tools/,$(wildcard */))
GO_INPUT = $(shell find $(GO_FOLDERS) \( -name node_modules -o -name testdata -o -path web/dist \) -prune -o -print) go.mod go.sum $(wildcard *.go)

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{ printf "make %-8s %s\n", $$1, $$2 }'

.PHONY: run
run: ## build and run everything on this machine, with simulated messengers and customers
	@scripts/setup.sh run
	@$(MAKE) -s bin/switchboard
	@exec bin/switchboard demo $(ARGS)

.PHONY: test
test: ## run all tests (Go with the race detector, web, browser); ends with a summary
	@scripts/setup.sh test
	@$(MAKE) -s bin/switchboard
	@exec scripts/test.sh

.PHONY: build
build: ## build bin/switchboard
	@scripts/setup.sh build
	@$(MAKE) -s bin/switchboard

.PHONY: lint
lint: ## check formatting and run the static checks
	@scripts/setup.sh build
	@$(MAKE) -s web/dist/index.html
	@scripts/lint.sh all

.PHONY: vuln
vuln: ## look for known vulnerabilities with govulncheck, where its database can be reached
	@scripts/setup.sh build
	@$(MAKE) -s web/dist/index.html
	@exec scripts/vuln.sh

.PHONY: fuzz
fuzz: ## fuzz the decoders for a minute each (FUZZTIME=1m)
	@scripts/setup.sh build
	@$(MAKE) -s web/dist/index.html
	@FUZZTIME=$${FUZZTIME:-1m} exec scripts/fuzz.sh

.PHONY: bench
bench: ## build and run the benchmarks
	@scripts/setup.sh bench
	@$(MAKE) -s bin/switchboard
	@exec go run ./internal/zktest/withzookeeper bin/switchboard bench $(ARGS)

# Without the race detector: with it two cores would be starved, and faults
# measured on a machine that is too slow say nothing.
.PHONY: chaos
chaos: ## kill, stop and cut off everything under load, and look at every message (DURATION=10m SEED=n)
	@scripts/setup.sh chaos
	@DURATION=$${DURATION:-10m} SEED=$${SEED:-} exec scripts/chaos.sh

.PHONY: up
up: ## run the distributed set in containers (needs Docker)
	docker compose up --build

.PHONY: clean
clean: ## remove what was built; the data folder stays
	rm -rf bin web/dist/* web/node_modules .cache

# The files below are made by the commands above, after scripts/setup.sh.

bin/switchboard: web/dist/index.html $(GO_INPUT)
	@echo "building $@"
	@$(GO_BUILD) -o $@ ./cmd/switchboard
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json $(WEB_INPUT)
	@echo "building the web desk"
	@cd web && npm run build
	@touch $@

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	@echo "installing the web desk's dependencies"
	@cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@
