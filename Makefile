# make demo   builds trace and shows it on a local server
# make test   everything that continuous integration checks
# make dist   makes archives and packages; dist-verify makes them again and compares
# make web    bundles the live page from web/ui into web/ui/dist
# make bench  measures it beside other tools and writes docs/benchmarks.md
# make soak   runs it under load and faults: minutes, or SOAKTIME=2h
# CONTRIBUTING.md says what a change looks like, docs/architecture.md how the house is built.

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PREFIX      ?= $(HOME)/.local
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT      := $(shell git rev-parse HEAD 2>/dev/null)
DATE        := $(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null)
LDFLAGS     := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)
FUZZTIME    ?= 60s
SOAKTIME    ?= 3m

# The race detector needs cgo and a C compiler; without one the tests run
# plainly, and say so.
RACE := $(shell command -v gcc >/dev/null 2>&1 && echo -race)

# Systems that `lint` builds trace for, beside the one that tests run on.
SYSTEMS := darwin/arm64 linux/arm64

.PHONY: $(SYSTEMS) web dist dist-verify notices build test demo bench microbench fuzz soak random lint cover install clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/trace ./cmd/trace

# Packages without a goroutine, those whose heavy tests only wait with the race
# detector, and the tests of the binary, which is built without it, run plainly.
PLAIN := ./flow ./wire ./redact ./export ./store ./e2e

# Lint runs beside the tests: it has the processors while they wait. What is
# compiled plainly is compiled once, as for the binary: with -trimpath.
test: build
	@$(if $(RACE),,echo 'no C compiler found: tests run without the race detector')
	@mkdir -p bin && $(GO) build -trimpath -o bin/testreport ./cmd/testreport
	@nice -n 19 $(MAKE) --no-print-directory lint >bin/lint.log 2>&1 & lint=$$!; trap 'kill $$lint' INT TERM; \
	set -x; { $(GO) test $(RACE) -short -json -timeout 15m $$($(GO) list ./... ahead/... | grep -Ev '/(flow|wire|redact|export|e2e)$$'); \
	$(GO) test -trimpath -json -timeout 20m $(PLAIN); \
	cd release && $(GO) test -trimpath -json -timeout 10m ./...; } 2>&1 | bin/testreport; tests=$$?; set +x; \
	wait $$lint; linted=$$?; cat bin/lint.log; \
	[ $$linted = 0 ] || echo 'lint failed'; [ $$tests = 0 ] && [ $$linted = 0 ]

lint: $(SYSTEMS)
	$(GO) vet -trimpath ./... ahead/...
	$(GO) run $(STATICCHECK) ./... ahead/...
	cd release && $(GO) vet -trimpath ./... && $(GO) run $(STATICCHECK) ./...
	cd web/build && $(GO) vet -trimpath ./... && $(GO) run -trimpath . -check

web:
	cd web/build && $(GO) run .

# Without optimisation: nobody runs these, and to compile all of it takes half the time.
QUICK := -gcflags='all=-N -l'

$(SYSTEMS):
	GOOS=$(@D) GOARCH=$(@F) CGO_ENABLED=0 $(GO) build $(QUICK) -o /dev/null ./cmd/trace
	GOOS=$(@D) GOARCH=$(@F) CGO_ENABLED=0 $(GO) vet $(QUICK) ./cmd/trace ./doctor ./store ./proxy

demo: build
	@$(GO) run ./cmd/demo bin/trace

bench: build
	$(GO) run ./bench -trace bin/trace -o docs/benchmarks.md -json docs/benchmarks.json $(BENCHFLAGS)

microbench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz:
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit 1; \
		done; \
	done

soak: build
	$(GO) run ./soak -trace bin/trace -time $(SOAKTIME) $(SOAKFLAGS)

# Thousands of random exchanges again and again; each failure says the seed
# that repeats it.
random:
	TRACE_E2E_EXCHANGES=5000 $(GO) test -count 10 -timeout 60m -run '^TestRandom$$' -v ./e2e

cover:
	$(GO) test -coverprofile coverage.out ./... && $(GO) tool cover -func coverage.out | tail -n 1

dist:
	cd release && GO='$(GO)' $(GO) run . -o ../dist $(DISTFLAGS)

dist-verify:
	cd release && GO='$(GO)' $(GO) run . -o ../dist -verify $(DISTFLAGS)

notices:
	cd release && GO='$(GO)' $(GO) run . -notices ../THIRD_PARTY_NOTICES

install: build
	install -D -m 0755 bin/trace $(DESTDIR)$(PREFIX)/bin/trace

clean:
	rm -rf bin coverage.out
