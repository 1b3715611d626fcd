# make demo shows it, make test checks it. Both need Go and nothing else; what is there besides (a C compiler, MariaDB,
# MySQL, Kafka's jars, Python) makes make test check more.

# What the program says of its version, where this is a git clone.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
# And of its commit: Go itself writes none into a build in a worktree.
STAMP = -X main.version=$(VERSION) $(shell git log -1 --format='-X main.commit=%H -X main.commitTime=%ct' 2>/dev/null)
# The version comes from above, so that a clone owned by another user builds too. Commands, tests and packages are all compiled as
# the packages have to be, so that each package of Go is compiled once for all of them, and once more for the race detector.
export GOFLAGS := $(strip $(shell go env GOFLAGS) -trimpath -buildvcs=false)
# The race detector alone needs cgo, which go turns off where it finds no C compiler.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
export CGO_ENABLED := 0

TIMEOUT ?= 45m
BENCH ?= .
COUNT ?= 6
FUZZTIME ?= 20s
FAULTS_REPORT ?= .cache/faults.txt
SOAK ?= 20m
SOAK_REPORT ?= .cache/soak.txt
# More than SOAK, and what it takes to check all in the end.
SOAK_TIMEOUT ?= 90m

.PHONY: help
help:
	@echo 'make demo    run all of it at once, until interrupted'
	@echo 'make test    build, lint, and run all tests that this machine can'
	@echo 'make build   build bin/tollstream, and the database in memory that up and demo start where no MariaDB is installed'
	@echo 'make lint    gofmt, go vet, staticcheck'
	@echo 'make bench   measure all figures of docs/performance.md and write them there (ONLY=scenarios, ROUNDS=5, BINARY=commands to compare); needs services'
	@echo 'make microbench  Go benchmarks compared with the stored baseline (BENCH=regexp, COUNT=$(COUNT))'
	@echo 'make microbench-baseline  store what this machine measures as the baseline'
	@echo 'make fuzz    every fuzz target for FUZZTIME=$(FUZZTIME), or those that FUZZ=regexp matches; keeps a corpus in testdata/corpus.txtar'
	@echo 'make faults  the campaign of faults, ROUNDS=100 kills and so on, with a table in $(FAULTS_REPORT); needs services'
	@echo 'make soak    everything at once for SOAK=$(SOAK), with a table of what it takes in $(SOAK_REPORT); needs services'
	@echo 'make screenshots  make the pictures of the live view in docs/img; needs services and Chromium'
	@echo 'make packages  deb, rpm, SBOM and checksums for amd64 and arm64, into bin/packages'
	@echo 'make image   the container image, without Docker, into bin/tollstream-image.tar'
	@echo 'make chart   lint the Helm chart and pack it into bin/packages'
	@echo 'make release-check  build the command for all systems that are released'
	@echo 'make test-packaging  install, upgrade and run the packages, the image and the chart'
	@echo 'make vuln    known vulnerabilities in what we call; needs the network'
	@echo 'make services  fetch what tests on real services need: Kafka, MySQL 8 and a schema registry (with Maven), Python packages, an OpenTelemetry collector'
	@echo 'make tidb    build TiDB from the Go module proxy, once: 14 minutes of CPU time'
	@echo 'make test-tidb  the store, processes that are killed, and verify on that TiDB; needs make kafka'
	@echo 'make proto   generate the Protobuf code; needs protoc'
	@echo 'make clean   remove what make built'

.PHONY: build
build:
	go build -ldflags '$(STAMP)' -o bin/tollstream ./cmd/tollstream
	go -C embedded build -o ../bin/ ./cmd/tollstream-embedded-mysql

.PHONY: demo
demo: build
	bin/tollstream demo

# What the race detector has nothing to find in, and takes three times the CPU time: packages that start no goroutine, and tests
# that look at files or run commands. The command's own packages are tested with it. CI tests the command with it as well.
PLAIN = ./codecs/... ./internal/arrows ./internal/bench/... ./internal/board ./internal/config ./internal/corpus ./internal/e2e \
	./internal/deadletters ./internal/events ./internal/interop ./internal/model/... ./internal/projectfiles ./internal/render \
	./internal/report ./internal/simulate ./internal/text/... ./internal/trust ./scripts/... ./sql/journeys \
	./toll/... ./web/pagetest $(if $(CI),,./cmd/...)
# Tests of other packages that search or count in one goroutine, for up to eight times as long with it.
SINGLE = ^Test(EveryPlaza|MillionTypes|ProtocolNeedsItsRules|ProtocolRepeats)$$
PLAIN_PACKAGES = $(shell go list $(PLAIN))
RACE_PACKAGES = $(filter-out $(PLAIN_PACKAGES),$(shell go list ./...))
# The longest ones first, so that none of them is left alone in the end.
LONGEST = internal/e2e cmd/tollstream web/pagetest topology/ingest sql/verify sql
longest_first = $(foreach p,$(LONGEST),$(filter %/$p,$(1))) $(filter-out $(addprefix %/,$(LONGEST)),$(1))

# One run of go test, without what lint checks: failures when they happen, skipped tests with their reasons at the end. A few tests
# that failed are run once more, by themselves, since a busy machine can fail what waits for servers; final-failures.sh has the
# exceptions.
define gotest
	@mkdir -p .cache
	go tool gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg --jsonfile .cache/$@.json --rerun-fails=1 \
		--rerun-fails-max-failures=3 --rerun-fails-abort-on-data-race --packages='$(1)' -- -vet off -timeout $(TIMEOUT) $(2)
	scripts/final-failures.sh .cache/$@.json
endef
# End-to-end tests of what does not depend on the database server run on MariaDB alone, and so do the cases of others that are
# about Kafka's users and rights.
ANY_ENGINE = ^Test(ClockAhead|Compacted|Detection|Emptied|EventsDated|Figures|Hostile(Batches|Sizes|Types)|Log|Mapping|OpenTransaction|OutageMetrics|Policy|Prometheus|Recover(Loop|Table)|Reload|Secrets|SchemaRegistry|SessionTimeout|ShortRetention|SkipGone|Sparse|Sums|TopicMadeAgain|UntilEnd)|^TestAccess$$/.*/^Kafka_|^TestFaults$$/^(kafka|state)-|^TestOperations$$/^drills$$/^(mismatches|partitions|topic|upgrade)$$|^TestPipeline$$/^embedded$$|^TestRights$$/.*/_on_(topic|group)_|^TestRights$$/.*/^lost$$/_on_(topic|group)_

.NOTPARALLEL:
.PHONY: test test-embedded test-plain test-race test-mysql
test: build lint test-embedded test-plain test-race test-mysql
test-race: export CGO_ENABLED = $(if $(RACE),1,0)
test-embedded: export CGO_ENABLED = $(if $(and $(CI),$(RACE)),1,0)
test-embedded:
	go -C embedded test -vet off $(if $(CI),$(RACE)) ./...
test-plain:
	$(call gotest,$(call longest_first,$(PLAIN_PACKAGES)))
	$(if $(RACE),go test -vet off -run '$(SINGLE)' ./topology ./topology/ingest)
	$(if $(CI),go test -vet off -short -run '^$$' -bench . -benchtime 1x $(BENCHED))
test-race:
	$(call gotest,$(call longest_first,$(RACE_PACKAGES)),$(if $(RACE),$(RACE) -skip '$(SINGLE)'))
test-mysql: export TOLLSTREAM_TEST_ENGINE = mysql
test-mysql:
	$(call gotest,./internal/e2e ./internal/interop,-skip '$(ANY_ENGINE)')

# go vet and staticcheck read what make build compiled.
.PHONY: lint
lint: STATICCHECK = $(shell go tool -n staticcheck)
lint:
	@unformatted=$$(gofmt -l */); [ -z "$$unformatted" ] || { echo "not formatted by gofmt:" $$unformatted >&2; exit 1; }
	go vet ./...
	$(STATICCHECK) ./...
	go -C embedded vet ./...
	cd embedded && $(STATICCHECK) ./...

# What is measured: the production build, and with a comma another command to compare it with.
BINARY ?= .cache/bench/tollstream
comma := ,
# The report as JSON, and where the table goes: a part of the figures is printed.
REPORT = .cache/bench/$(or $(subst $(comma),-,$(ONLY)),all).json
FIGURES = $(if $(ONLY),-only $(ONLY),-into docs/performance.md -readme README.md)
.PHONY: bench
bench:
	go build -ldflags '$(STAMP)' -o .cache/bench/tollstream ./cmd/tollstream
	go run ./scripts/bench -binary $(BINARY) -rounds $(or $(ROUNDS),5) -json $(REPORT) $(FIGURES)

# The packages that hold benchmarks. CI runs each once, so that none stops working unnoticed.
BENCHED = $(shell grep -rl --include='*_test.go' '^func Benchmark' */ | xargs -n 1 dirname | sort -u | sed 's|^|./|')
BASELINE ?= testdata/bench/baseline.txt
# Half a second each, and one package after the other: two at once would measure each other.
MEASURE = go test -p 1 -run '^$$' -bench '$(BENCH)' -benchmem -benchtime 0.5s -count $(COUNT) $(BENCHED)

.PHONY: microbench microbench-baseline
microbench:
	@mkdir -p .cache/bench
	$(MEASURE) >.cache/bench/new.txt || { cat .cache/bench/new.txt; exit 1; }
	go tool benchstat $(BASELINE) .cache/bench/new.txt
microbench-baseline:
	@mkdir -p .cache/bench $(dir $(BASELINE))
	$(MEASURE) >.cache/bench/new.txt || { cat .cache/bench/new.txt; exit 1; }
	cp .cache/bench/new.txt $(BASELINE)

# One target after the other. Part of what the engine finds interesting is kept in testdata/corpus.txtar, and every go test runs it.
FUZZ ?=
.PHONY: fuzz
fuzz:
	go run ./scripts/fuzz -time $(FUZZTIME) -run '$(FUZZ)' ./...

# Every fault again and again, one after the other, on two cores in less than half an hour.
.PHONY: faults
faults: export TOLLSTREAM_ROUNDS = $(or $(ROUNDS),100)
faults: export TOLLSTREAM_REQUIRE_SERVICES = 1
faults: export TOLLSTREAM_CAMPAIGN = 1
faults: export TOLLSTREAM_FAULTS_REPORT = $(abspath $(FAULTS_REPORT))
faults:
	@mkdir -p $(dir $(FAULTS_REPORT))
	go test -run 'Faults|Kill|Outage|Recover|Rebuild|Access|Rights|Hostile' -count 1 -timeout 90m -v ./internal/e2e
	@cat $(FAULTS_REPORT)

# Processes, a view and its clients under a steady load, while members come and go and servers break: does it level off?
# A backlog of ten million events is another test: TOLLSTREAM_BACKLOG=10000000 go test -run TestBacklog -v -timeout 90m ./internal/e2e
.PHONY: soak
soak: export TOLLSTREAM_SOAK = $(SOAK)
soak: export TOLLSTREAM_REQUIRE_SERVICES = 1
soak: export TOLLSTREAM_SOAK_REPORT = $(abspath $(SOAK_REPORT))
soak:
	@mkdir -p $(dir $(SOAK_REPORT))
	go test -run 'TestSoak$$' -count 1 -timeout $(SOAK_TIMEOUT) -v ./internal/e2e

.PHONY: screenshots
screenshots:
	go test ./web/pagetest -run Screenshots -count 1 -screenshots ../../docs/img

.PHONY: vuln
vuln:
	scripts/vulncheck.sh

.PHONY: services kafka mysql registry python collector
services: kafka mysql registry python collector
kafka mysql registry:
	scripts/fetch/fetch.sh $@
python:
	scripts/python-env.sh
# OpenTelemetry's collector is a module of its own: it takes a minute to build, and hundreds of packages.
collector:
	go -C collector vet .
	go -C collector build -o ../.cache/bin/ .

# TiDB, with its storage for tests in the same process. Its version is a placeholder where it is built by other means than its own.
TIDB = .cache/tidb/tidb-server
TIDB_VERSION = v8.5.0-20251126-e4e814fdc0af
.PHONY: tidb test-tidb
tidb: $(TIDB)
$(TIDB): tidb/go.mod
	@mkdir -p $(dir $@)
	nice go -C tidb build -trimpath -ldflags '-s -w -X github.com/pingcap/tidb/pkg/parser/mysql.TiDBReleaseVersion=$(TIDB_VERSION)' \
		-o ../$@ tool
test-tidb: export TOLLSTREAM_TEST_ENGINE = tidb
test-tidb: export TOLLSTREAM_REQUIRE_SERVICES = 1
test-tidb: export TOLLSTREAM_BACKLOG_KILLED = 450000
test-tidb: tidb
	go test -count 1 -timeout $(TIMEOUT) ./sql/...
	go test -count 1 -timeout $(TIMEOUT) ./internal/e2e -run '^Test(Pipeline|BacklogKilled)$$|^TestFaults$$/^(kill|database-commit|database-certified|database-paused)$$'

# What is released. packaging is a module of its own: its tools need hundreds of others. goreleaser builds the archives of all
# systems; the packages come from here.
ARCHS ?= amd64 arm64
PLATFORMS = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
STATIC = go build -ldflags '-s -w $(STAMP)'
PACKAGING = go -C packaging
# The time of the commit, so that the same commit makes the same packages.
packages: export SOURCE_DATE_EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
# A clone without a tag has no version that dpkg could compare.
packages: export VERSION := $(if $(filter v%,$(VERSION)),$(VERSION),v0.0.0+$(or $(VERSION),devel))

.PHONY: binaries manuals packages image chart release-check test-packaging
binaries:
	@$(foreach a,$(ARCHS),GOOS=linux GOARCH=$a $(STATIC) -o bin/linux-$a/tollstream ./cmd/tollstream &&) true
# Manual pages and completion, as the command of this machine prints them.
manuals:
	@rm -rf bin/manuals && mkdir -p bin/manuals bin/tools
	go build -o bin/tools/tollstream ./cmd/tollstream
	@set -e; cd bin/manuals; tollstream=../tools/tollstream; \
		for shell in bash zsh fish; do $$tollstream completion $$shell >tollstream.$$shell; done; \
		$$tollstream man >tollstream.1; \
		for name in $$($$tollstream complete -- '' | cut -f 1); do $$tollstream man $$name >tollstream-$$name.1; done; \
		gzip -9 -n *.1
packages: binaries manuals
	@rm -rf bin/packages && mkdir -p bin/packages
	$(PACKAGING) build -o ../bin/tools/ tool
	@set -e; for ARCH in $(ARCHS); do export ARCH; \
		bin/tools/cyclonedx-gomod bin -json -version "$$VERSION" -output bin/linux-$$ARCH/sbom.cdx.json bin/linux-$$ARCH/tollstream; \
		for packager in deb rpm; do \
			bin/tools/nfpm package --config packaging/nfpm.yaml --packager $$packager --target bin/packages/; done; \
		cp bin/linux-$$ARCH/sbom.cdx.json bin/packages/tollstream_linux_$$ARCH.cdx.json; done
	@cd bin/packages && sha256sum -- * >SHA256SUMS && cat SHA256SUMS
image: binaries
	$(PACKAGING) run ./image -dockerfile ../Dockerfile -bin ../bin -version '$(VERSION)' -out ../bin/tollstream-image.tar $(ARCHS)
chart:
	@mkdir -p bin/packages
	$(PACKAGING) run ./chart -version '$(VERSION)' -out ../bin/packages helm/tollstream
release-check:
	@$(foreach p,$(PLATFORMS),echo $p && GOOS=$(patsubst %/,%,$(dir $p)) GOARCH=$(notdir $p) $(STATIC) -o /dev/null ./cmd/tollstream &&) true
	$(PACKAGING) test -run Release .
test-packaging: packages image
	$(PACKAGING) vet ./...
	$(PACKAGING) test -count 1 ./...

.PHONY: proto
proto:
	go generate ./codecs/tollpb

.PHONY: clean
clean:
	rm -rf bin
