# The commands of the house. Each sets up what it needs, once: a stamp in .venv says what is there.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Everything is locked with hashes; --no-deps, so that nothing comes that no lock names.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps
LOCKED := $(PIP) --require-hashes --only-binary :all:
# torch's build differs from machine to machine, so it is pinned by version and not by hash.
TORCH := torch==2.13.0
# The SDKs that drive the server beside those in the environment, and an emulator of Azure's storage.
SDKS := pinecone7 pinecone8 pinecone9 typescript azurite
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install serve check test test-postgres test-crash bench oracle proto lock clean

help:
	@echo "make serve    set up, then answer on http://127.0.0.1:5080"
	@echo "make install  the set-up of make serve alone"
	@echo "make test     the whole test suite (make oracle first, to check models against sentence-transformers too)"
	@echo "make test-postgres  the tests of state, services and control plane, on PostgreSQL too"
	@echo "make test-crash     kill -9 in full: the embedded store 2,000 times (make test: 200), each kind of job 100 (50),"
	@echo "                    a server with all of them at work 50 (3)"
	@echo "make check    ruff, mypy, import-linter"
	@echo "make bench    speed, with the peers measured in the same run (ARGS=embed, models, sparse, stores, imports or grpc: one part)"
	@echo "make proto    generate the code of the gRPC messages anew, after a change of their .proto"
	@echo "make lock     renew requirements/*.txt and package-lock.json (needs uv and npm)"

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here: install it, or say make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: requirements/build.txt requirements/serve.txt requirements/model.txt pyproject.toml | $(BIN)/python
	$(LOCKED) -r requirements/build.txt -r requirements/serve.txt -r requirements/model.txt
	$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.serve requirements/test.txt $(SDKS:%=$(VENV)/.sdk-%)
	$(LOCKED) -r requirements/test.txt
	@touch $@

# Other versions of a vendor's SDK lie in .sdk, each in a folder of its own with all that it needs.
$(VENV)/.sdk-pinecone%: requirements/pinecone%.txt | $(VENV)/.serve
	rm -rf .sdk/pinecone$* && $(LOCKED) --target .sdk/pinecone$* -r $<
	@touch $@

# Node.js comes from Debian's packages, and is installed if it is missing and this is root.
NPM := package.json package-lock.json .npmrc
$(VENV)/.sdk-typescript: $(NPM:%=tests/dialects/pinecone/typescript/%) | $(BIN)/python
$(VENV)/.sdk-azurite: $(NPM:%=tests/services/azurite/%) | $(BIN)/python
$(VENV)/.sdk-typescript $(VENV)/.sdk-azurite:
	$(BIN)/python -m tests.node $(<D)
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
	$(BIN)/ruff check src tests bench tools
	$(BIN)/ruff format --check src tests bench tools
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
	$(BIN)/python -m tests.state.postgres -n $(JOBS) --dist worksteal $(ARGS)

CRASHES := $(addprefix tests/,stores/test_edge_crash.py faults/test_each_job_killed.py \
	faults/test_jobs_of_a_killed_server.py)
test-crash: $(VENV)/.test
	PINYON_CRASH_ROUNDS=2000 PINYON_JOB_ROUNDS=100 PINYON_SERVER_ROUNDS=50 $(BIN)/pytest $(CRASHES) \
		-n $(JOBS) --dist worksteal -v -rP $(ARGS)

# The stores to compare with have an environment of their own: theirs and ours would not fit into one.
$(VENV)/.bench: requirements/bench.txt | $(BIN)/python
	rm -rf $(VENV)/bench-peers && $(BIN)/python -m venv $(VENV)/bench-peers
	PIP_PYTHON=$(VENV)/bench-peers/bin/python $(LOCKED) -r $<
	@touch $@

bench: $(VENV)/.oracle $(VENV)/.bench
	$(BIN)/python -m bench $(ARGS)

PROTO := pinyon/dialects/pinecone/data/proto/vector_service.proto
proto: $(VENV)/.test
	$(BIN)/python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src src/$(PROTO)

lock:
	requirements/lock.sh

clean:
	rm -rf $(VENV) .sdk build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
