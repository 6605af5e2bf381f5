# Every target sets up what it needs: git, make and python3 >= 3.11 are enough. Start with `make help`.

PYTHON ?= python3
UV_VERSION := $(shell sed -n 's/^UV_VERSION = "\(.*\)"/\1/p' scripts/bootstrap.py)
UV ?= $(CURDIR)/.tools/uv-$(UV_VERSION)/uv
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := $(CURDIR)/.tools/lowest

# The interpreter is the machine's; certificates are the machine's, as for everything else in Debian.
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS := 1
export UV_NO_PROGRESS := 1
# The settings of another project must not leak in: only this folder's environment is used.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME UV_PROJECT_ENVIRONMENT

.DEFAULT_GOAL := help
.PHONY: help setup demo test check conformance bench soak lowest fix lock changelog clean

help: ## Say what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(READY) ## Make .venv with everything locked in uv.lock (the other targets do it themselves)

$(CURDIR)/.tools/uv-$(UV_VERSION)/uv: scripts/bootstrap.py
	@$(PYTHON) scripts/bootstrap.py >/dev/null
	@touch $@

$(READY): $(UV) pyproject.toml uv.lock
	$(UV) sync --locked --all-extras --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $@

# Most tests wait more than they work. ARGS="-n 0" runs them in one process, for a debugger.
WORKERS := -n 4 --dist worksteal

demo: $(READY) ## Three replicas on a file, a round-robin proxy, a real client, kill -9 (KEEP=1 leaves it running)
	@$(BIN)/python -m examples.demo

test: $(READY) redis ## All tests, on memory, Valkey and Redis (ARGS="-k name" is passed to pytest)
	$(BIN)/python -m pytest $(WORKERS) --ignore tests/chaos $(ARGS)
	$(BIN)/python -m pytest tests/chaos # alone: it measures how long clients wait

check: $(READY) ## Style, format, types (mypy and pyright, both strict), import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

conformance: $(READY) redis ## The official MCP conformance suite: two processes behind round robin, on SQLite and Valkey
	$(BIN)/python -m conformance.run

bench: $(READY) redis ## All speeds, against named peers in the same run; renews docs/benchmarks.md (ARGS=--quick)
	UV=$(UV) $(BIN)/python -m benchmarks $(ARGS)

SOAK := $(BIN)/python -m chaos --replicas 4 --servers serve,uvicorn,hypercorn,granian
soak: $(READY) ## An hour of killing, pausing and replacing replicas, and of faults of the store, under load
	$(SOAK) --minutes 20 --kills 100 --clients 50 --events 1000 --stop --rolling 2 --official 4 --think 5 $(ARGS)
	$(SOAK) --minutes 20 --kills 20 --clients 20 --faults 10 --stop --rolling 0 --think 2 $(ARGS)
	$(SOAK) --minutes 10 --kills 5 --clients 20 --faults 5 --rolling 0 --think 2 --store sentinels $(ARGS)
	$(SOAK) --minutes 10 --kills 5 --clients 20 --faults 5 --rolling 0 --think 2 --store cluster $(ARGS)
	HOLDFAST_KILLS=1000 $(BIN)/python -m pytest -n 2 tests/backends/sqlite/test_kills.py

# Debian's redis-server, the second flavour of the tests; Valkey's comes as a wheel.
.PHONY: redis
redis: $(READY)
	@$(BIN)/python scripts/redis_server.py

lowest: $(UV) redis ## Unit and flow tests with the oldest dependencies that pyproject.toml allows
	$(UV) pip compile pyproject.toml --all-extras --group dev --resolution lowest-direct --quiet \
		--python $(BIN)/python --output-file $(LOWEST).txt
	$(UV) venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(UV) pip install --quiet --python $(LOWEST)/bin/python --requirements $(LOWEST).txt --editable .
	$(LOWEST)/bin/python -m pytest $(WORKERS) tests/unit tests/flows $(ARGS)

fix: $(READY) ## Repair what ruff can repair
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

PERSIST := benchmarks/peers/mcp_persist/requirements
lock: $(UV) ## Renew uv.lock, and with it what a peer in benchmarks/ needs
	$(UV) lock --upgrade
	$(UV) export --all-extras --no-dev --no-hashes --no-emit-project --quiet | $(UV) pip compile $(PERSIST).in \
		--constraint - --generate-hashes --universal --no-annotate --quiet --output-file $(PERSIST).txt \
		--custom-compile-command "make lock"

changelog: $(READY) ## Show what the next release's notes would say
	$(BIN)/towncrier build --draft

clean: ## Remove everything that the other targets made
	rm -rf $(VENV) .tools build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
