# Everything a fresh machine needs is python3 >= 3.11, make and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help demo test check format engine test-engine test-virtual test-virtual-all clients bench lock clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(VENV)/.base ## Run a Text-to-SQL job of a few hundred questions on a modelled fleet
	$(BIN)/halo demo

test: $(VENV)/.dev ## Run the tests; those that need Redis or PostgreSQL run where a server is installed
	$(BIN)/python scripts/test_services.py -- $(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## Format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Put the code into the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

engine: ## Build .venv-engine with the CPU vLLM, and a small model
	$(PYTHON) scripts/make_engine.py

test-engine: $(VENV)/.dev engine ## Run the tests against the real CPU vLLM
	$(BIN)/python scripts/test_services.py -- $(BIN)/python -m pytest -m engine $(ARGS)

clients: .venv-clients/.done ## Install real clients (openai, LangChain, mini-swe-agent); `make test` then runs them too

.venv-clients/.done: requirements/clients.txt
	test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip --disable-pip-version-check install --quiet --require-hashes -r requirements/clients.txt
	touch $@

test-virtual: engine ## Run the tests that drive vLLM's own scheduler under a virtual clock; VLLM=0.28 for another version
	.venv-engine/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes \
	  -r requirements/engine-test.txt
	$(if $(VLLM),$(MAKE) .engine/vllm-$(VLLM)/.done)
	$(if $(VLLM),PYTHONPATH=$(CURDIR)/.engine/vllm-$(VLLM)) VLLM_TARGET_DEVICE=cpu \
	  .venv-engine/bin/python -m pytest -o filterwarnings=default tests/kvstore/test_virtual_*.py $(ARGS)

test-virtual-all: ## The same on every vLLM in requirements/: the oldest, one between, the newest
	for version in "" 0.24 0.28 0.33; do $(MAKE) test-virtual VLLM=$$version || exit 1; done

.engine/vllm-%/.done: requirements/vllm-%.txt
	.venv-engine/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes --upgrade \
	  --target $(@D) -r $<
	touch $@

bench: $(VENV)/.dev ## Run the benchmarks; each prints a table and JSON
	$(BIN)/python -m benchmarks.planning.scale
	$(BIN)/python -m benchmarks.planner.cost_model
	$(BIN)/python -m benchmarks.planner.placement
	$(BIN)/python -m benchmarks.batch.throughput
	$(BIN)/python -m benchmarks.scheduling.hexgen
	$(BIN)/python -m benchmarks.scheduling.fairness
	$(BIN)/python -m benchmarks.scheduling.overload
	$(BIN)/python -m benchmarks.scheduling.fleet_plan
	$(BIN)/python -m benchmarks.scheduling.fleet_knee
	$(BIN)/python -m benchmarks.scheduling.simulator
	$(BIN)/python -m benchmarks.scheduling.tuning
	$(BIN)/python -m benchmarks.scheduling.fidelity --without-real

lock: $(VENV)/.dev ## Pin the requirements anew, with hashes
	$(PIP) pip-tools
	cd requirements && for name in build base dev clients; do ../$(COMPILE) -o $$name.txt $$name.in; done

clean: ## Remove what make has made
	rm -rf $(VENV) .venv-engine .venv-gpu .venv-clients .engine build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.base: pyproject.toml requirements/build.txt requirements/base.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes -r requirements/build.txt -r requirements/base.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.base requirements/dev.txt
	$(PIP) --require-hashes -r requirements/dev.txt
	touch $@
