# make pretrain   set up, then pre-train the demo (ARGS="..." adds settings)
# make test       set up, then run all tests
# make check      set up, then lint and type-check
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN = $(VENV)/bin

.PHONY: pretrain test check

pretrain: $(VENV)/installed
	$(BIN)/accelerate launch train/pretrain.py $(ARGS)

test: $(VENV)/installed
	$(BIN)/python -m pytest $(ARGS)

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
