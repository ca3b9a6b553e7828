# Everything a newcomer needs: `make demo` and `make test`, from nothing but Python 3.11+ and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint check clean

help:
	@echo "make demo   30 s of chat on three real nodes under random faults, then the verdict"
	@echo "make test   linters, types, import rules and the default tier of tests"
	@echo "make test-slow  the tests that take longer"
	@echo "make check  linters, types and import rules only"
	@echo "make setup  the virtual environment in $(VENV), and nothing else"
	@echo "make clean  remove $(VENV) (recorded runs in runs/ are kept)"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Telegraft needs Python 3.11 or newer; " + sys.executable + " is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(READY)

demo: $(READY)
	$(BIN)/telegraft demo

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint: check

test: check
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf $(VENV)
