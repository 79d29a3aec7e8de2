# make pretrain     set up, then pre-train the demo (ARGS="..." adds settings)
# make finetune     set up, then post-train the demo's model (after make pretrain)
# make demo         set up, then chat with the demo's model in a browser (after make pretrain)
# make test         set up, then run all tests of this project
# make conformance  set up, then run transformers' own tests on our classes and, to compare, on stock GPT-2's
# make tools        set up, then run the tests of other tools (vLLM, llama.cpp, TRL, ...) on our folders, and of SLURM
# make check        set up, then lint and type-check
# make quick        the checks, and the tests of an inner loop
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN = $(VENV)/bin

.PHONY: pretrain finetune demo test conformance tools check quick

pretrain: $(VENV)/installed
	$(BIN)/accelerate launch -q train/pretrain.py $(ARGS)

finetune: $(VENV)/finetune-installed
	$(BIN)/accelerate launch -q train/finetune.py $(ARGS)

demo: $(VENV)/demo-installed
	$(BIN)/python -m hub_card.space runs/demo $(ARGS)

# Three workers for two cores: tests wait for servers, locks and signals.
test: $(VENV)/test-installed
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

conformance: $(VENV)/test-installed
	$(BIN)/python tests/conformance/fetch.py
	$(BIN)/python -m pytest tests/conformance $(ARGS)

tools: $(VENV)/tools-installed .venv-vllm/installed .venv-skypilot/installed
	$(BIN)/python -m pytest tests/tools tests/train/cluster $(ARGS)

check: $(VENV)/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

quick: check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow and not multiprocess" tests/test_*.py \
		tests/modeling_gpt2scratch tests/train/settings tests/train/optim tests/train/data/rows \
		tests/train/checkpointing/test_checkpoints.py tests/train/data/sequences/test_packing.py \
		--ignore tests/modeling_gpt2scratch/test_generation.py --ignore tests/modeling_gpt2scratch/test_hf_gpt2.py $(ARGS)

# torch goes first and alone: what comes after it then finds it, whichever build it is.
$(VENV)/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/finetune-installed $(VENV)/demo-installed $(VENV)/test-installed: $(VENV)/%-installed: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .[$*]
	touch $@

$(VENV)/tools-installed: $(VENV)/test-installed
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

# SkyPilot needs another omegaconf than the tools beside it.
.venv-skypilot/installed: tests/tools/skypilot_requirements.txt
	$(PYTHON) -m venv .venv-skypilot
	.venv-skypilot/bin/pip install --quiet --requirement $<
	touch $@
