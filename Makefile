# Event Hooks. `make` prints what there is.
#
# Only Go is needed, and Python for the checks that run AWS-compatible servers,
# lint the template and try the API.

ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FUNCTIONS := admin ingest deliver healthprobe

# What the functions run on; template.yaml says the same.
ARCH ?= arm64

# A static binary without net/rpc, which lambda.norpc leaves out (3 MB), without
# symbols, and the same from whichever directory it is built.
# The version is what receivers see in User-Agent.
VERSION ?= $(shell git -C "$(ROOT)" describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD := CGO_ENABLED=0 go build -trimpath -tags lambda.norpc -ldflags='-s -X main.version=$(VERSION)' -buildvcs=false

# What is compiled without inlining, so that a cold start loads less: Lua, which
# only some hooks use, and in admin, which people call now and then, everything
# but most of the standard library, whose runtime would start later.
LUA := -gcflags=github.com/yuin/...=-l -gcflags=eventhooks/internal/lua/...=-l
FLAGS_deliver := $(LUA)
FLAGS_Deliver := $(LUA)
FLAGS_admin := -gcflags=github.com/...=-l -gcflags=eventhooks/...=-l -gcflags=net/...=-l
FLAGS_Admin := $(FLAGS_admin)

GO_TOOL := go tool -modfile=tools/go.mod

.PHONY: help
help: ## print this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---------------------------------------------------------------------- build

.PHONY: build
build: $(FUNCTIONS:%=bootstrap-%) ## build/<function>/bootstrap for Lambda (ARCH=amd64 for another machine)
	@go -C tools run ./artifact -arch $(ARCH) $(FUNCTIONS:%=$(ROOT)/build/%/bootstrap)

.PHONY: $(FUNCTIONS:%=bootstrap-%)
$(FUNCTIONS:%=bootstrap-%): bootstrap-%:
	GOOS=linux GOARCH=$(ARCH) $(BUILD) $(FLAGS_$*) -o build/$*/bootstrap ./functions/$*

# `sam build` calls these, build-<logical id>, in a copy of the module or in the
# module itself, as it is told. They build the module where this file is.
build-%Function:
	cd "$(ROOT)" && GOOS=linux GOARCH=$(ARCH) $(BUILD) $(FLAGS_$*) -o "$(ARTIFACTS_DIR)/bootstrap" ./functions/$$(tr A-Z a-z <<<'$*')

.PHONY: clean
clean: ## remove what was built
	rm -rf build .aws-sam

# ----------------------------------------------------------------------- test

.PHONY: test
test: ## run the tests: no network, nothing to install
	go test ./...

CHECKS := format vet lint build reflect test-race test-aws contract lint-template sam-build

.PHONY: check
check: ## everything that CI runs
	@for c in $(CHECKS); do \
		echo "-- make $$c"; began=$$SECONDS; \
		$(MAKE) --no-print-directory $$c; \
		echo "-- make $$c took $$((SECONDS - began)) s"; \
	done
	@echo "check: all passed"

.PHONY: format
format: ## is every Go file formatted (gofumpt)?
	@files=$$($(GO_TOOL) gofumpt -l *.go cmd e2e examples functions internal tools); \
	if [ -n "$$files" ]; then echo "not formatted; run $(GO_TOOL) gofumpt -w on:"; echo "$$files"; exit 1; fi

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: lint
lint: ## staticcheck
	$(GO_TOOL) staticcheck ./...

.PHONY: reflect
reflect: ## does nothing in a function keep the linker from dropping dead code?
	@for f in $(FUNCTIONS); do \
		found=$$(GOOS=linux GOARCH=$(ARCH) CGO_ENABLED=0 go build -trimpath -tags lambda.norpc -ldflags=-dumpdep -o /dev/null ./functions/$$f 2>&1 | grep '<ReflectMethod>' || true); \
		if [ -n "$$found" ]; then echo "functions/$$f calls a method by a computed name:"; echo "$$found"; exit 1; fi; \
	done

.PHONY: test-race
test-race: ## the tests under the race detector, where there is a C compiler
	@if [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null; \
	then echo "go test -race ./..."; go test -race ./...; \
	else echo "no C compiler: tests run without the race detector"; go test ./...; fi

.PHONY: test-aws
test-aws: ## the tests against AWS-compatible servers, and the built functions on them
	tools/standin/run go test -count=1 ./internal/dynamostore/... ./internal/sqsqueue/... ./internal/stack/... ./e2e/...

.PHONY: e2e
e2e: ## the built functions as processes, against a Lambda Runtime API and AWS-compatible servers
	tools/standin/run go test -count=1 -run '^TestLambda' -v ./e2e

KILLS ?= 200
KILLS_LOCAL ?= $(shell echo $$(($(KILLS) / 2)))
KILLS_AWS ?= $(shell echo $$(($(KILLS) - $(KILLS) / 2)))
.PHONY: crashtest
crashtest: ## kill the system KILLS times (200) under load, half of them locally and half as functions: is anything lost?
	EVENTHOOKS_KILLS=$(KILLS_LOCAL) go test -count=1 -timeout 30m -run '^TestKill_nothingAcceptedIsLost$$' -v ./e2e
	EVENTHOOKS_KILLS=$(KILLS_AWS) tools/standin/run go test -count=1 -timeout 30m -run '^TestLambda_killedFunctionsLoseNothing$$' -v ./e2e

.PHONY: isolation
isolation: ## how soon events arrive beside hooks that hang and fail, against alone (two minutes, a quiet machine)
	go test -timeout 20m -run '^$$' -bench '^BenchmarkIsolation$$' -benchtime 1x ./e2e

.PHONY: contract
contract: ## does the local system answer as docs/openapi.yaml says? (SEED=1 MAX_EXAMPLES=5)
	tools/contract/run

.PHONY: lint-template
lint-template: ## cfn-lint on template.yaml and on its transform, sam validate
	tools/template/check

.PHONY: sam-build
sam-build: ## sam build, in each way it can be called, and a look at what came out
	tools/template/sam-build

.PHONY: fuzz
FUZZTIME ?= 10s
fuzz: ## every fuzz test for FUZZTIME (10s)
	@go list -f '{{$$d := .Dir}}{{range .TestGoFiles}}{{$$d}}/{{.}} {{end}}{{range .XTestGoFiles}}{{$$d}}/{{.}} {{end}}' ./... \
		| xargs grep -Ho '^func Fuzz[A-Za-z0-9_]*' /dev/null \
		| while IFS=: read -r file func; do \
			echo "$${file#$(ROOT)/}: $${func#func }"; \
			go test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 50x "$$(dirname "$$file")"; \
		done

.PHONY: bench
bench: ## benchmarks, and how soon the built functions ask for their first event
	go test -run '^$$' -bench . -skip '^Benchmark(Isolation|Figures_)' -benchmem ./...

.PHONY: figures
figures: ## CPU, requests and allocations of a delivery, deliveries a second, latency (a quiet machine)
	tools/standin/run go test -timeout 30m -run '^$$' -bench '^BenchmarkFigures_(cpu|oneCore|latency|requests)$$' -benchtime 1x ./e2e
	go test -run '^$$' -bench '^BenchmarkFigures_allocs$$' -benchtime 5000x ./e2e
