# make demo shows it, make test checks it. Both need Go and nothing else; what is there besides (a C compiler, MariaDB,
# Kafka's jars, Python) makes make test check more.

# What the program says of its version, where this is a git clone.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
# The version comes from above, so that a clone owned by another user builds too.
export GOFLAGS := $(strip $(shell go env GOFLAGS) -buildvcs=false)
# The race detector needs cgo, which go turns off where it finds no C compiler.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

TIMEOUT ?= 15m
BENCH ?= .
COUNT ?= 6
FUZZTIME ?= 20s
ROUNDS ?= 100

.PHONY: help
help:
	@echo 'make demo    run all of it in one process, until interrupted'
	@echo 'make test    build, lint, and run all tests that this machine can'
	@echo 'make build   build bin/tollstream'
	@echo 'make lint    gofmt, go vet, staticcheck'
	@echo 'make bench   Go benchmarks beside the stored baseline (BENCH=regexp, COUNT=$(COUNT))'
	@echo 'make bench-baseline  store what this machine measures as the baseline'
	@echo 'make fuzz    every fuzz target for FUZZTIME=$(FUZZTIME)'
	@echo 'make faults  the kills and outages, ROUNDS=$(ROUNDS) of each; needs services'
	@echo 'make services  fetch what tests on real services need: Kafka (with Maven), Python packages'
	@echo 'make proto   generate the Protobuf code; needs protoc'
	@echo 'make clean   remove what make built'

.PHONY: build
build:
	go build -ldflags '-X main.version=$(VERSION)' -o bin/tollstream ./cmd/tollstream

.PHONY: demo
demo: build
	bin/tollstream demo

.PHONY: test
test: build lint
	go run ./scripts/gotest $(RACE) -timeout $(TIMEOUT) ./...
	go run ./scripts/gotest -run '^$$' -bench . -benchtime 1x $(BENCHED)

.PHONY: lint
lint:
	@unformatted=$$(gofmt -l */); [ -z "$$unformatted" ] || { echo "not formatted by gofmt:" $$unformatted >&2; exit 1; }
	go vet ./...
	go vet -tags noembedded ./internal/devstack
	go tool staticcheck ./...

# The packages that hold benchmarks. make test runs each benchmark once, so that none stops working unnoticed.
BENCHED = $(shell grep -rl --include='*_test.go' '^func Benchmark' */ | xargs -n 1 dirname | sort -u | sed 's|^|./|')
BASELINE ?= testdata/bench/baseline.txt
# Half a second each, and one package after the other: two at once would measure each other.
MEASURE = go test -p 1 -run '^$$' -bench '$(BENCH)' -benchmem -benchtime 0.5s -count $(COUNT) $(BENCHED)

.PHONY: bench bench-baseline
bench:
	@mkdir -p .cache/bench
	$(MEASURE) >.cache/bench/new.txt || { cat .cache/bench/new.txt; exit 1; }
	go tool benchstat $(BASELINE) .cache/bench/new.txt
bench-baseline:
	@mkdir -p .cache/bench $(dir $(BASELINE))
	$(MEASURE) >.cache/bench/new.txt || { cat .cache/bench/new.txt; exit 1; }
	cp .cache/bench/new.txt $(BASELINE)

# go test fuzzes one target at a time.
.PHONY: fuzz
fuzz:
	@grep -rn --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' */ | sed 's|/[^/]*_test.go:[0-9]*:func | |' | while read -r dir target; do \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$dir || exit 1; \
	done

.PHONY: faults
faults: export TOLLSTREAM_ROUNDS = $(ROUNDS)
faults: export TOLLSTREAM_REQUIRE_SERVICES = 1
faults:
	go test -run 'Kill|Outage' -count 1 -timeout 60m -v ./internal/e2e

.PHONY: services kafka python
services: kafka python
kafka:
	scripts/fetch-kafka/fetch.sh
python:
	scripts/python-env.sh

.PHONY: proto
proto:
	go generate ./codecs/tollpb

.PHONY: clean
clean:
	rm -rf bin
