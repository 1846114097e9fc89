# The commands of the house. Each sets up what it needs, once: a stamp in .venv says what is there.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Everything is locked with hashes; --no-deps, so that nothing comes that no lock names.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps
LOCKED := $(PIP) --require-hashes --only-binary :all:
# torch's build differs from machine to machine, so it is pinned by version and not by hash.
TORCH := torch==2.13.0
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install serve check test test-postgres bench oracle lock clean

help:
	@echo "make serve    set up, then answer on http://127.0.0.1:5080"
	@echo "make install  the set-up of make serve alone"
	@echo "make test     the whole test suite (make oracle first, to check models against sentence-transformers too)"
	@echo "make test-postgres  the tests of the control plane's state, on PostgreSQL too"
	@echo "make check    ruff, mypy, import-linter"
	@echo "make bench    speed, with the peers measured in the same run"
	@echo "make lock     renew requirements/*.txt (needs uv)"

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here: install it, or say make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: requirements/build.txt requirements/serve.txt requirements/model.txt pyproject.toml | $(BIN)/python
	$(LOCKED) -r requirements/build.txt -r requirements/serve.txt -r requirements/model.txt
	$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.serve requirements/test.txt requirements/pinecone7.txt
	$(LOCKED) -r requirements/test.txt
	rm -rf .sdk && $(LOCKED) --target .sdk/pinecone7 -r requirements/pinecone7.txt
	@touch $@

$(VENV)/.oracle: $(VENV)/.test requirements/oracle.txt
	$(BIN)/python -m pip --disable-pip-version-check install --quiet $(TORCH)
	$(LOCKED) -r requirements/oracle.txt
	@touch $@

install: $(VENV)/.serve

oracle: $(VENV)/.oracle

serve: install
	@exec $(BIN)/pinyon serve $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports

# In CI the oracle is part of the suite: there its tests may not be skipped.
ifeq ($(CI),true)
test: $(VENV)/.oracle
else
test: $(VENV)/.test
endif
	$(BIN)/pytest -n $(JOBS) --dist worksteal

# PostgreSQL comes from Debian's packages, and is installed if it is missing and this is root.
test-postgres: $(VENV)/.test
	$(BIN)/python -m tests.state.postgres $(ARGS)

bench: $(VENV)/.oracle
	$(BIN)/python -m bench $(ARGS)

lock:
	requirements/lock.sh

clean:
	rm -rf $(VENV) .sdk build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
