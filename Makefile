# Needs only make and Python 3.11 or later with venv; everything else goes into .venv.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
PORT ?= 8000
ARGS ?=
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# Most tests wait for processes: three of them share two cores well, and on a slow machine none waits too long.
WORKERS ?= $(shell expr $(CORES) \* 3 / 2)

BIN := .venv/bin
READY := .venv/.ready
EXAMPLES := $(wildcard examples/*/)

.DEFAULT_GOAL := help
.PHONY: help run test check format bench soak clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'devsup needs Python 3.11 or later; "$(PYTHON)" is $(shell $(PYTHON) --version 2>&1 || true).' >&2; \
		echo 'Install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '"$(PYTHON)" has no venv module. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(READY) ## run the chat example under devsup (PORT=8000)
	cd examples/chat && ../../$(BIN)/devsup run uvicorn main:app --port $(PORT)

test: $(READY) ## run the tests (ARGS="tests/test_cli.py -k help", WORKERS=4)
	$(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal $(ARGS)

check: $(READY) ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@set -e; for folder in $(EXAMPLES); do echo "mypy $$folder"; \
		(cd "$$folder" && ../../$(BIN)/mypy --config-file ../../pyproject.toml .); done

format: $(READY) ## let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## compare with uvicorn and others (ARGS="reload help", ARGS="peers --help")
	$(BIN)/python -m bench $(ARGS)

soak: $(READY) ## run the tests that take minutes, on the packages of tests/apps/install.py
	$(BIN)/python tests/apps/install.py
	$(BIN)/python -m pytest -m soak --timeout=3600 $(ARGS)

clean: ## remove what make and the tools have made
	rm -rf .venv .venv-apps .venv-bench .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name .devsup -type d -prune -exec rm -rf {} +
