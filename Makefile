# Every target works as the first command on a fresh clone: it makes `.venv`, installs what is locked by hash,
# builds the native module in release mode, and does its work. `.venv/bin/casparian` is the program.
#
#   make demo                 a small case of our own, from evidence to a proven row
#   make run EVIDENCE=DIR     the same on your evidence (ARGS="--sink … --mode …" is passed on)
#   make test                 unit, property, integration, acceptance and native tests
#   make test-all             the same with what takes minutes
#   make simulate             histories of the sentinel, simulated (SEEDS=10000)
#   make storm                kill processes at random moments: KILLS=200, SEED=…, SINKS=parquet,csv,duckdb, MODES=…
#   make bench                our stages beside the readers of others: STAGES=…, RUNS=5, SIZE_MB=256, DISSECT=1, PAGE=1
#   make instructions         count instructions of the hot loops: fails on 5 % more (UPDATE=1 takes the counts as they are)
#   make fuzz                 search for input that breaks a decoder: TIME=60 (seconds a target), TARGETS=event_log,…
#   make lint                 formatters, linters, types, import rules
#   make walkthrough          run the tutorial: a root and a key, a signed parser, a second home, a revocation
#   make appliance            the stick for disconnected networks, in build/appliance/stick: RELEASE=2, KEY=release.pem, RUNTIME=TARBALL, FREEZE=0
#   make appliance-test       install it in bare machines without a network, and try to break that: needs root and debootstrap (PAGE=1, ROOMS=…)
#   make docs                 write the generated reference pages again
#   make clean                remove builds and `.venv`, never a home and never evidence
#
# Packages come from whatever index pip is configured for. CASPARIAN_CORPUS=DIR adds the tests on a corpus.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EVIDENCE ?=
ARGS ?=
export EVIDENCE

# What the native module is built from: its sources, and what it holds the hash of (engine, first-party parsers).
NATIVE_SOURCES := $(shell find native parsers casparian/guest casparian/sdk -type f \
	! -path '*/__pycache__/*' ! -path '*/target/*' 2>/dev/null) Cargo.toml Cargo.lock pyproject.toml

.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile

.PHONY: demo
demo: $(VENV)/.native
	@mkdir -p build
	@$(BIN)/casparian demo --into "$$(mktemp -d build/demo-XXXXXX)"

.PHONY: run
run: check-evidence $(VENV)/.native
	@$(BIN)/casparian run "$$EVIDENCE" $(ARGS)

.PHONY: check-evidence
check-evidence:
	@if [ -z "$$EVIDENCE" ]; then echo 'usage: make run EVIDENCE=DIR' >&2; exit 2; fi

.PHONY: walkthrough
walkthrough: $(VENV)/.native
	@$(BIN)/python docs/walkthrough.py docs/tutorial/signed-parser.md

.PHONY: test
test: $(VENV)/.dev $(VENV)/.native $(VENV)/.appliance
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow' $(ARGS)
	cargo test --locked -p casparian-confine -p casparian-core
	$(BIN)/python -m tests.instructions

.PHONY: test-all
test-all: $(VENV)/.dev $(VENV)/.native $(VENV)/.appliance
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)
	cargo test --locked -p casparian-confine -p casparian-core
	$(BIN)/python -m tests.instructions

.PHONY: simulate
simulate: $(VENV)/.dev $(VENV)/.native
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),10000)

KILLS ?= 200
SEED ?=
SINKS ?= parquet,csv,duckdb
MODES ?= append,replace,error

.PHONY: storm
storm: $(VENV)/.dev $(VENV)/.native
	$(BIN)/python -m tests.storm --kills $(KILLS) $(if $(SEED),--seed $(SEED)) --sinks $(SINKS) --modes $(MODES)

RUNS ?= 5
SIZE_MB ?= 256
STAGES ?=
PAGE ?=
DISSECT ?=
BENCH_BASELINES := build/bench/baselines

.PHONY: bench
bench: $(VENV)/.native $(BENCH_BASELINES)/.installed$(if $(DISSECT),-dissect)
	$(BIN)/python -m tests.bench --baselines $(BENCH_BASELINES)/bin/python --runs $(RUNS) --size-mb $(SIZE_MB) \
	  $(if $(STAGES),--stages $(STAGES)) $(if $(PAGE),--page docs/reference/benchmark.md) $(ARGS)

UPDATE ?=
.PHONY: instructions
instructions: $(VENV)/.native
	$(BIN)/python -m tests.instructions $(if $(UPDATE),--update) $(ARGS)

TIME ?= 60
TARGETS ?=
.PHONY: fuzz
fuzz: $(VENV)/.native
	$(BIN)/python -m tests.fuzz --time $(TIME) $(if $(TARGETS),--targets $(TARGETS)) $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev $(VENV)/.native
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for program in offline-wheels/*.py; do $(BIN)/mypy "$$program" || exit 1; done
	$(BIN)/python offline-wheels/licences.py --check
	$(BIN)/lint-imports
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# The stick. Its parts are kept in build/appliance, and made again when what they are made of has changed.
RELEASE ?= $(shell git rev-list --count HEAD 2>/dev/null || echo 1)
KEY ?=
FREEZE ?= 1
RUNTIME ?=
APPLIANCE_ARGS ?=
.PHONY: appliance
appliance: $(VENV)/.native $(VENV)/.appliance
	@PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/python -m bundle.appliance --release $(RELEASE) \
	  $(if $(KEY),--key "$(KEY)") $(if $(RUNTIME),--python "$(RUNTIME)") $(if $(filter 0,$(FREEZE)),--no-freeze) $(APPLIANCE_ARGS)

# Rooms are made of mounts and namespaces: root. The page that is walked in them calls `make appliance` itself.
ROOMS ?= bookworm,trixie
CUTS ?= 12
.PHONY: appliance-test
appliance-test: $(VENV)/.native $(VENV)/.appliance
	@$(BIN)/python -m tests.appliance --rooms $(ROOMS) --cuts $(CUTS) --rounds $(RUNS) \
	  $(if $(PAGE),--page docs/reference/appliance.md) $(ARGS)

.PHONY: docs
docs: $(VENV)/.native
	$(BIN)/python docs/generate.py

.PHONY: clean
clean:
	rm -rf $(VENV) build target casparian/_native*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find casparian tests parsers docs -name __pycache__ -type d -prune -exec rm -rf {} +

# -- set-up ----------------------------------------------------------------------------------------

# Each missing tool is named with how to get it; all of them are looked for before giving up.
$(VENV)/.tools:
	@missing=0; python=''; \
	for candidate in $${PYTHON:-} python3 python3.13 python3.12 python3.11; do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then missing=1; \
	  echo 'missing: Python 3.11 or newer, with venv' >&2; \
	  echo '  Debian, Ubuntu: apt install python3 python3-venv    Fedora: dnf install python3' >&2; \
	  echo '  or name one: make PYTHON=/path/to/python3.11 …' >&2; fi; \
	if ! command -v cargo >/dev/null 2>&1; then missing=1; \
	  echo 'missing: Rust 1.90 or newer (cargo)' >&2; \
	  echo '  rustup (https://rustup.rs) installs it without root; distributions package it as rust and cargo' >&2; fi; \
	if ! command -v cc >/dev/null 2>&1; then missing=1; \
	  echo 'missing: a C compiler (cc), which links the native module' >&2; \
	  echo '  Debian, Ubuntu: apt install build-essential    Fedora: dnf install gcc' >&2; fi; \
	if [ "$$missing" = 1 ]; then exit 1; fi; \
	if [ ! -x $(BIN)/python ]; then echo "making $(VENV) with $$($$python --version)"; "$$python" -m venv $(VENV); fi
	@touch $@

$(VENV)/.runtime: $(VENV)/.tools requirements/runtime.txt requirements/build.txt
	@echo 'installing locked packages'
	@$(PIP) install --quiet --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@echo 'installing locked development packages'
	@$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.native: $(VENV)/.runtime $(NATIVE_SOURCES)
	@echo 'building the native module (release)'
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" PATH="$(CURDIR)/$(BIN):$$PATH" PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
	  $(BIN)/maturin develop --quiet --release --locked
	@$(BIN)/python -m compileall -q casparian   # our processes write no byte code, and would compile all of it at each start
	@touch $@

# What compiles and relocates the appliance.
$(VENV)/.appliance: $(VENV)/.native requirements/appliance.txt
	@echo 'installing the locked tools that make the appliance'
	@$(PIP) install --quiet --require-hashes -r requirements/appliance.txt
	@touch $@

# The readers that `make bench` compares with live by themselves; nothing of ours depends on them.
$(BENCH_BASELINES)/.installed: $(VENV)/.tools requirements/bench.txt
	@echo 'installing the locked baselines of the benchmark'
	@mkdir -p build/bench
	@$(BIN)/python -m venv --clear $(BENCH_BASELINES)
	@$(BENCH_BASELINES)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/bench.txt
	@touch $@

# AGPL: compared with only when asked for.
$(BENCH_BASELINES)/.installed-dissect: $(BENCH_BASELINES)/.installed requirements/bench-dissect.txt
	@$(BENCH_BASELINES)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/bench-dissect.txt
	@touch $@
