# make pretrain     set up, then pre-train the demo (ARGS="..." adds settings)
# make test         set up, then run all tests of this project
# make conformance  set up, then run transformers' own tests on our classes and, to compare, on stock GPT-2's
# make tools        set up, then run the tests of other tools (vLLM, llama.cpp, TRL, ...) on our folders
# make check        set up, then lint and type-check
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN = $(VENV)/bin

.PHONY: pretrain test conformance tools check

pretrain: $(VENV)/installed
	$(BIN)/accelerate launch train/pretrain.py $(ARGS)

test: $(VENV)/installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

conformance: $(VENV)/installed
	$(BIN)/python tests/conformance/fetch.py
	$(BIN)/python -m pytest tests/conformance $(ARGS)

tools: $(VENV)/tools-installed .venv-vllm/installed
	$(BIN)/python -m pytest tests/tools $(ARGS)

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

$(VENV)/tools-installed: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .[test,tools]
	touch $@

# vLLM pins other versions of transformers and more. The three packages that go have no build for a torch without CUDA,
# and are for images and sound.
.venv-vllm/installed: tests/tools/vllm_requirements.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --constraint $< torch
	.venv-vllm/bin/pip install --quiet --requirement $<
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@
