# make pretrain   set up, then pre-train the demo (ARGS="..." adds settings)
# make test       set up, then run all tests
# make conformance  set up, fetch transformers' own tests, then run them on our classes and on stock GPT-2's
# make check      set up, then lint and type-check
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN = $(VENV)/bin

.PHONY: pretrain test conformance check

pretrain: $(VENV)/installed
	$(BIN)/accelerate launch train/pretrain.py $(ARGS)

test: $(VENV)/installed
	$(BIN)/python -m pytest $(ARGS)

conformance: $(VENV)/installed
	$(BIN)/python tests/conformance/fetch.py
	$(BIN)/python -m pytest tests/conformance $(ARGS)

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch goes first and alone: what comes after it then finds it, whichever build it is.
$(VENV)/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .[test]
	touch $@
