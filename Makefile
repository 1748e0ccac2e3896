# Everything a developer runs. `make help` lists it.

GO      ?= go
BIN     := bin
FUZZTIME ?= 30s
MODELTIME ?= 30m
# For make faults: which faults, on which versions of PostgreSQL, how many kills
# (make consumers takes them as well).
FAULTS   ?= all
VERSIONS ?= 14,15,16,17,18
KILLS    ?= 100
# For make kafka: the packages whose tests run on each version, and which tests of them.
SUITES   ?= ./internal/kafkatest ./router/... ./checkpoint/... ./e2e
RUN      ?=
# For make example: which one.
NAME    ?=
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint
# For make release: the version that is to be released. Empty: a snapshot.
VERSION    ?=
GORELEASER := $(GO) tool -modfile=tools/release/go.mod goreleaser

.PHONY: help build demo example patterns test deployment short long writers consumers model faults kafka faults-selftest lint vulnerabilities sbom reproducible package-files release release-test release-notes formula chart fmt fuzz bench microbench generate clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the streamer into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/streamer ./cmd/streamer

demo: ## watch it work: PostgreSQL, Kafka, a shop, the streamer killed halfway, an audit
	@echo "building the demo (a minute or two the first time)"
	@CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o $(BIN)/demo ./examples/demo
	@$(BIN)/demo $(DEMO_FLAGS)

example: ## run one worked example of examples/patterns and kill its processes (NAME=choreography)
	cd examples/patterns && $(GO) test -count=1 -timeout=30m -v -run '(?i)^Test$(NAME)' ./e2e

patterns: ## run every worked example for longer, with hundreds of kills
	cd examples/patterns && STREAMER_LONG=1 $(GO) test -count=1 -timeout=2h -v ./e2e

# Many tests wait for servers, so that more of them run than there are cores.
TEST := test -vet=all -shuffle=on -parallel=4

test: ## run every test: unit, conformance and end to end, with real PostgreSQL and Kafka
	$(GO) $(TEST) -race -timeout=30m ./...
	cd consume && $(GO) $(TEST) -race -timeout=10m ./...
	cd consume/e2e && $(GO) $(TEST) -race -timeout=20m ./...
	cd examples/patterns && CGO_ENABLED=0 $(GO) $(TEST) -trimpath -timeout=15m ./...
	cd cmd/streamer/internal/page/browser && $(GO) $(TEST) -race -timeout=10m ./...
	cd tools/release && $(GO) $(TEST) -timeout=10m ./...

deployment: ## test the Helm chart, the alerts and the dashboard (compiles Helm and Prometheus)
	cd deploy/check && $(GO) $(TEST) -timeout=10m ./...

short: ## run the tests that need no server
	$(GO) test -race -shuffle=on -short ./...

long: ## run the slow tests as well: more servers, thousands of partitions
	STREAMER_LONG=1 $(GO) test -race -shuffle=on -timeout=60m ./...

writers: ## let frameworks from the registries (npm, PyPI, Maven Central, Go) write the rows that presets read
	STREAMER_LONG=1 $(GO) test -count=1 -timeout=30m -run '^TestWriters$$' -v ./cmd/streamer

consumers: ## kill the consumers in Java, Python and JavaScript KILLS times each (default 100)
	cd consume/e2e && KILLS=$(KILLS) $(GO) test -count=1 -timeout=3h -run '^TestOtherLanguages' -v ./languages

model: ## play histories against a model of the servers for MODELTIME (default 30m); a failure names its seed
	$(GO) test -count=1 -timeout 24h -run '^TestModel$$' ./internal/pipeline -args -model.for $(MODELTIME) -model.from 0

faults-selftest: ## break the streamer in eight ways and see that the faults notice
	$(GO) test -count=1 -timeout=2h -tags selftest -run '^TestHarnessNotices$$' -v ./e2e/faults

faults: ## play every fault on every PostgreSQL (FAULTS=name,… VERSIONS=17,18 KILLS=1000) and write docs/reliability.md
	@status=0; \
	STREAMER_FAULTS="$(FAULTS)" STREAMER_FAULTS_POSTGRES=$(VERSIONS) KILLS=$(KILLS) STREAMER_FAULTS_RESULTS=results.json \
	  $(GO) test -race -count=1 -timeout=12h -parallel=3 -run '^TestFaults$$' -v ./e2e/faults || status=$$?; \
	$(GO) generate ./e2e/faults && exit $$status

kafka: VERSIONS = 2.4.1,2.8.2,3.3.2,3.9.2,4.0.2,4.1.2,4.2.2,4.3.1,4.4.0
kafka: FAULTS = Kafka:,Checkpoint store: checkpoint topic,process: zombie
kafka: ## run the tests that use Kafka, and its faults, on every Kafka (VERSIONS=4.0.2,… FAULTS=…) and write docs/kafka-versions.md
	@status=0; for version in $$(echo $(VERSIONS) | tr , ' '); do \
	  export STREAMER_TEST_KAFKA_VERSION=$$version CI=true; \
	  $(GO) test -json -count=1 -timeout=40m -run '$(RUN)' $(SUITES) | \
	    $(GO) run ./e2e/faults/suite -kafka $$version -run '$(RUN)' -results e2e/faults/kafka.json || status=1; \
	  STREAMER_FAULTS="$(FAULTS)" STREAMER_FAULTS_RESULTS=kafka.json \
	    $(GO) test -count=1 -timeout=3h -parallel=2 -run '^TestFaults$$' -v ./e2e/faults || status=1; \
	done; \
	$(GO) generate ./e2e/faults && exit $$status

fuzz: ## run every fuzz target for FUZZTIME each (default 30s)
	@for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
	    echo "$$package $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
	  done; \
	done

bench: ## compare with Debezium and others, and write bench/report (BENCH_FLAGS="-scale 0.1 -workloads W1,W2"; see bench/README.md)
	@echo "building the benchmark"
	@CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o $(BIN)/bench ./bench/cmd/bench
	@$(BIN)/bench $(BENCH_FLAGS)

microbench: ## run the micro-benchmarks, with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

lint: ## run the linters, and build for macOS
	$(LINT) run ./...
	GOOS=darwin CGO_ENABLED=0 $(GO) build -trimpath -o /dev/null ./cmd/streamer

vulnerabilities: ## look for known vulnerabilities in what the binary calls
	$(GO) tool -modfile=tools/go.mod govulncheck ./cmd/streamer

sbom: build ## write the binary's bill of materials, bin/streamer.cdx.json (CycloneDX)
	@$(GO) run -C tools ./sbom ../$(BIN)/streamer ../$(BIN)/streamer.cdx.json
	@echo "$(BIN)/streamer.cdx.json"

reproducible: ## build twice, in two folders, and compare
	@rm -rf $(BIN)/twice && mkdir -p $(BIN)/twice
	@git clone -q . $(BIN)/twice/a && git clone -q . $(BIN)/twice/some-other-folder
	@for copy in a some-other-folder; do (cd $(BIN)/twice/$$copy && GOCACHE=$$(mktemp -d) CGO_ENABLED=0 $(GO) build -trimpath -o streamer ./cmd/streamer) || exit 1; done
	@cmp $(BIN)/twice/a/streamer $(BIN)/twice/some-other-folder/streamer && echo "the same: $$(sha256sum < $(BIN)/twice/a/streamer)"
	@rm -rf $(BIN)/twice

package-files: ## write the manual page and the completions into bin/package, for packages
	@rm -rf $(BIN)/package && mkdir -p $(BIN)/package/completions
	@CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/package/streamer ./cmd/streamer
	@$(BIN)/package/streamer man | gzip -9 -n > $(BIN)/package/streamer.1.gz
	@$(BIN)/package/streamer completion bash > $(BIN)/package/completions/streamer.bash
	@$(BIN)/package/streamer completion zsh > $(BIN)/package/completions/_streamer
	@$(BIN)/package/streamer completion fish > $(BIN)/package/completions/streamer.fish
	@rm $(BIN)/package/streamer

release: ## build everything a release consists of into dist/, test it and publish nothing (VERSION=0.1.0; docs/releasing.md)
	$(GORELEASER) check
	@# goreleaser takes no notice of the commit where no remote is known, as in a copy.
	GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=remote.origin.url GIT_CONFIG_VALUE_0=https://github.com/outboxstream/streamer \
	  VERSION=$(VERSION) $(GORELEASER) release --snapshot --clean --skip=sign
	@$(MAKE) --no-print-directory formula release-test
	@$(MAKE) --no-print-directory chart VERSION=$$(sed -n 's/.*"version":"\([^"]*\)".*/\1/p' dist/metadata.json)

release-test: ## test what a release has left in dist/: contents, checksums, installation of the deb
	cd tools/release && STREAMER_DIST=../../dist $(GO) test -count=1 ./...

release-notes: ## print what CHANGELOG.md says about VERSION
	@awk '/^## /{found = $$2 == "$(VERSION)"; next} found {print; lines++} END {exit !lines}' CHANGELOG.md

formula: ## write the Homebrew formula of the release in dist/
	@$(GO) run -C tools/release ./formula ../../dist > dist/streamer.rb

chart: ## package the Helm chart as VERSION into dist/
	@mkdir -p dist && $(GO) run -C deploy/check ./pack ../helm/streamer "$(VERSION)" ../../dist

fmt: ## format the code
	$(LINT) fmt ./...

generate: ## rewrite generated files
	$(GO) generate ./...

clean: ## remove what was built
	rm -rf $(BIN)
