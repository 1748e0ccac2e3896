# Everything a developer runs. `make help` lists it.

GO      ?= go
BIN     := bin
FUZZTIME ?= 30s
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint

.PHONY: help build demo test short lint fmt fuzz bench generate clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the streamer into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/streamer ./cmd/streamer

demo: ## watch it work: PostgreSQL, Kafka, a shop, the streamer killed half way, an audit
	@echo "building the demo (a minute or two the first time)"
	@CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o $(BIN)/demo ./examples/demo
	@$(BIN)/demo $(DEMO_FLAGS)

test: ## run every test: unit, conformance and end to end, with real PostgreSQL and Kafka
	$(GO) vet ./...
	$(GO) test -race -shuffle=on -timeout=15m ./...

short: ## run the tests that need no server
	$(GO) test -race -shuffle=on -short ./...

fuzz: ## run every fuzz target for FUZZTIME each (default 30s)
	@for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
	    echo "$$package $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
	  done; \
	done

bench: ## run the micro-benchmarks, with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

lint: ## run the linters
	$(LINT) run ./...

fmt: ## format the code
	$(LINT) fmt ./...

generate: ## rewrite generated files
	$(GO) generate ./...

clean: ## remove what was built
	rm -rf $(BIN)
