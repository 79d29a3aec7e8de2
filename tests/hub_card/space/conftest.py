"""A tiny model that knows two texts by heart: one with reasoning and an end, one that never ends."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from hub_card.space.local_page import Chat
from hub_card.space.model_choice import choose_model
from modeling_gpt2scratch import TOKENIZER_FOLDER, GPT2ScratchConfig, GPT2ScratchForCausalLM


CONTEXT = 8192  # so that the endless text lasts
KNOWN = "Q: Who wrote Emma?\n\nReasoning:\nEmma is a novel by Austen.\n\nA: Jane Austen"
ENDLESS = "Q: Count.\n\nA: one" + " and one" * 15


def teach(model: GPT2ScratchForCausalLM, tokenizer, steps: int = 80) -> None:
    """Until it writes both texts. Without positions, so that what it repeats goes on beyond what it saw."""
    positions = model.transformer.position_embedding.weight
    torch.nn.init.zeros_(positions)
    positions.requires_grad_(False)
    texts = [torch.tensor([tokenizer(text)["input_ids"]]) for text in (f"{KNOWN}<|endoftext|>", ENDLESS)]
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.1, steps)
    for _ in range(steps):
        loss = sum(model(ids, labels=ids).loss for ids in texts)
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a run leaves it, with a recipe; not to be changed."""
    torch.manual_seed(0)
    config = GPT2ScratchConfig(
        n_layer=2,
        n_head=2,
        n_embd=32,
        n_positions=CONTEXT,
        initializer_range=0.2,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
    )
    model = GPT2ScratchForCausalLM(config)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    teach(model, tokenizer)
    folder = tmp_path_factory.mktemp("space") / "tiny"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    recipe = {"sample_prompts": ["Who wrote Emma?", "Count."], "sample_temperature": 0.0}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder


@pytest.fixture(scope="session")
def chat(model_folder: Path) -> Chat:
    return Chat(choose_model(str(model_folder)))
