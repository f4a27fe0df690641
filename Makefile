# What a person types. GNU make 3.81 (macOS) is enough.
.DEFAULT_GOAL := help
.PHONY: help run test test-all lint proto clean

# How many node daemons, which model, where clients connect: make run NODES=3 PORT=8080
NODES ?= 2
MODEL ?= tandem-demo
PORT ?= 52525
# More for pytest: make test PYTEST_FLAGS="-k parsers"
PYTEST_FLAGS ?=
# Tests that measure no times are shared out to two processes; the others run alone.
TIMELESS := tests/demo_model tests/node/cutting tests/node/detection tests/node/grammar tests/parsers \
  $(foreach name,formats frameworks judges opencode,tests/clients/test_client_$(name).py)

VENV := .venv
BIN := $(VENV)/bin
# The first of these that is 3.11 or newer makes the environment; make run PYTHON=/path/to/python3.12 names one.
PYTHON ?= python3.12 python3.13 python3.11 python3.14 python3 python
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

help:
	@echo "make run        a cluster on this machine and a gateway; NODES=$(NODES) MODEL=$(MODEL) PORT=$(PORT)"
	@echo "make test       the tests, in minutes"
	@echo "make test-all   the slow ones too"
	@echo "make lint       style, types, who may import whom"
	@echo "make proto      generates tandem/v1 from proto/"
	@echo "make clean      removes the environment and everything that was built"

run: $(VENV)/.run
	@exec $(BIN)/tandem up --nodes "$(NODES)" --model "$(MODEL)" --port "$(PORT)"

# pytest ends with 5 where its flags leave nothing to run.
test: SOME := -m "not slow"
test test-all: $(VENV)/.dev
	$(BIN)/python -m pytest $(TIMELESS:%=--ignore=%) $(SOME) $(PYTEST_FLAGS) || [ $$? = 5 ]
	$(BIN)/python -m pytest -n 2 --dist worksteal $(TIMELESS) $(SOME) $(PYTEST_FLAGS) || [ $$? = 5 ]

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

proto: $(VENV)/.dev
	$(BIN)/python scripts/generate_proto.py

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .hypothesis .pytest_cache .mypy_cache .ruff_cache
	rm -rf .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each is newer than what was installed for it.
$(VENV)/.made:
	@for python in $(PYTHON); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    "$$python" -m venv $(VENV) && touch $@; exit $$?; \
	  fi; \
	done; \
	echo "tandem: needs Python 3.11 or newer and found none; install it, or name it: make run PYTHON=/path/to/python3.12" >&2; \
	exit 1

$(VENV)/.run: $(VENV)/.made pyproject.toml
	@echo "tandem: installing what running needs into $(VENV), once"
	@$(PIP_INSTALL) --editable .
	@touch $@

# Dependency groups need pip 25.1.
$(VENV)/.dev: $(VENV)/.run pyproject.toml
	@echo "tandem: installing what developing needs into $(VENV), once"
	@$(PIP_INSTALL) --upgrade "pip>=25.1"
	@$(PIP_INSTALL) --group dev
	@touch $@
