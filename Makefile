# `make demo` and `make test` work on a fresh machine with Python 3.11 or later and make; `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
STAMP := $(VENV)/.installed
PY := $(VENV)/bin/python
# Tried in this order after $(PYTHON): the versions that most of the dependencies have wheels for come first.
PYTHONS := $(PYTHON) python3.12 python3.11 python3.13 python3.14 python3

# These wait more than they work. A file's tests share what they have set up, so a file stays in one process. All of them
# need the same order of sets, another one at each run, to find the same tests.
FAST = PYTHONHASHSEED=$$$$ $(PY) -m pytest -m "not airflow" --numprocesses 3 --dist loadfile

# Settings of the demo: make demo CATALOG=... COLLECTION_JSON=... CONFIG=... KEEP=1
export CATALOG COLLECTION_JSON CONFIG KEEP

.PHONY: demo demo-distributed test test-matrix test-oldest lint types fast benchmark docs docs-page build venv clean help

demo: $(STAMP) ## Run the demonstration: a real Airflow, the emulator, a small real catalog (or CATALOG=...; KEEP=1)
	@exec $(PY) -m demo

demo-distributed: $(STAMP) ## Run the example DAGs on Celery workers, Redis and PostgreSQL, and kill some in between
	@demo/system-packages.sh redis-server
	@exec $(PY) -m demo.distributed

test: lint types test-oldest ## Run everything: lint, types, all tests, on the newest and on the oldest Airflow
	@demo/system-packages.sh redis-server chromium
	$(FAST)
	$(PY) -m pytest -m airflow

fast: $(STAMP) ## Run the tests that need no Airflow components
	$(FAST)

test-matrix: $(STAMP) ## Run the tests on each supported Airflow (VERSIONS="2.11.2 3.3.2" for some), an environment each
	$(PY) -m matrix $(VERSIONS)

test-oldest: $(STAMP) ## Run what imports Airflow on the oldest supported one
	$(PY) -m matrix --quick --one 2.11.2

lint: $(STAMP) ## Check style, format and layers
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(VENV)/bin/lint-imports

types: $(STAMP) ## Check types
	$(PY) -m mypy

benchmark: $(STAMP) ## Measure what importing, requests, waiting and transferring cost, beside the official SDK (20 minutes)
	$(PY) -m benchmarks

docs: $(STAMP) ## Build the documentation site into docs/_build/html
	$(PY) -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

docs-page: $(STAMP) ## Write docs/operations.md, the list of all operations, from the code
	$(PY) docs/operations_page.py

build: $(STAMP) ## Build the wheel and the source distribution into dist/
	$(PY) -m build

venv: $(STAMP) ## Set up the virtual environment (every target does so itself)

# A found Python may be a shim without a version behind it, too old, or without what makes environments: try it.
$(STAMP): pyproject.toml constraints.txt
	@set -e; found=; \
	for candidate in $(PYTHONS); do \
		if $$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			found=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "No Python 3.11 or later with the modules venv and ensurepip was found (tried: $(PYTHONS))." >&2; \
		echo "Install one (Debian and Ubuntu: also its python3-venv package), or name it: make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi; \
	if ! $(PY) -c 'import pip' >/dev/null 2>&1; then \
		echo "Setting up $(VENV) with $$($$found --version)"; \
		rm -rf $(VENV); \
		$$found -m venv $(VENV); \
	fi; \
	echo "Installing the dependencies into $(VENV) (a minute or two, only when they change)"; \
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[emulator,demo,dev]'; \
	touch $(STAMP)

clean: ## Remove everything that these targets make
	rm -rf $(VENV) .matrix .demo .azurite dist build docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
