# Python 3.11 to 3.13 and make are all that is needed: the first target creates .venv from the lock file.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
# Written last, so that an install that was interrupted is done again.
INSTALLED := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check up down bench-hot bench-cold bench-lookup bench-evidence bench-shadow bench-log bench-release lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12 chooses the interpreter of a new .venv; ARGS='-k ports' goes to pytest."

demo: $(INSTALLED) ## train two versions on real flights, release, replay, cut over, undo
	@$(BIN)/hotcold demo

test: $(INSTALLED) ## run all tests; ARGS goes to pytest
	@$(BIN)/python -m pytest $(ARGS)

check: $(INSTALLED) ## lint, format, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

up: $(INSTALLED) ## start the whole stack in var/ (or HOTCOLD_HOME)
	@$(BIN)/hotcold up

down: $(INSTALLED) ## end every process of the stack
	@$(BIN)/hotcold down

bench-hot: $(INSTALLED) ## measure switches, undo and replica loss under load, as ratios
	@$(BIN)/python -m benchmarks.hot $(ARGS)

bench-cold: $(INSTALLED) ## measure batch scoring against the bare engine and a plain script
	@$(BIN)/python -m benchmarks.cold $(ARGS)

bench-lookup: $(INSTALLED) ## measure how long a scorer waits for the published score of an entity
	@$(BIN)/python -m benchmarks.lookup

bench-evidence: $(INSTALLED) ## count false alarms with a peek at every request, and time to find harm
	@$(BIN)/python -m benchmarks.evidence $(ARGS)

bench-shadow: $(INSTALLED) ## measure what copies of requests cost the champion's consumers
	@$(BIN)/python -m benchmarks.shadow $(ARGS)

bench-log: $(INSTALLED) ## measure what the prediction log costs a replica
	@$(BIN)/python -m benchmarks.log $(ARGS)

bench-release: $(INSTALLED) ## simulate canary releases: how many a minute, false rollbacks, rules kept
	@$(BIN)/python -m benchmarks.release $(ARGS)

lock: $(INSTALLED) ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --output-file requirements.lock --universal --python-version 3.11 \
		--extra dev --extra bench --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet
	@if grep -n '://' requirements.lock; then echo "requirements.lock names a host; it may hold names, versions and hashes only"; exit 1; fi

clean: ## remove caches; .venv and var/ stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
	find . -path ./.venv -prune -o -path ./var -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

$(INSTALLED): requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else "make: $(PYTHON) is Python %d.%d; hotcold needs 3.11, 3.12 or 3.13. Choose one with make PYTHON=python3.12, for instance." % v[:2])'
	@echo "installing into .venv from requirements.lock; this takes about two minutes, once"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@
