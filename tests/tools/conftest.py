"""One small model that has learned a few answers by heart, in the two folders that tools are given."""

from pathlib import Path

import pytest
import torch

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, save_as_hf_gpt2


QUESTIONS = {
    "What is the capital city of Japan?": ("Japan's seat of government is Tokyo.", "Tokyo"),
    "How many legs has a spider?": ("A spider is an arachnid, and those have eight.", "Eight"),
    "Which gas do plants take in?": ("Photosynthesis uses light, water and carbon dioxide.", "Carbon dioxide"),
    "Who wrote Hamlet?": ("Hamlet is an English tragedy of about 1600.", "William Shakespeare"),
}
TEXTS = [
    f"Q: {question}\n\nReasoning:\n{why}\n\nA: {answer}<|endoftext|>" for question, (why, answer) in QUESTIONS.items()
]
PROMPTS = [f"Q: {question}" for question in QUESTIONS]
ANSWERS = [text.removeprefix(prompt) for text, prompt in zip(TEXTS, PROMPTS, strict=True)]


@pytest.fixture(scope="session")
def learned(tokenizer) -> GPT2ScratchForCausalLM:
    """It continues each of PROMPTS with its one of ANSWERS, by a margin that rounding in other engines cannot undo."""
    torch.manual_seed(0)
    config = GPT2ScratchConfig(n_embd=128, n_layer=2, n_head=2, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    model = GPT2ScratchForCausalLM(config).train()
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.eos_token_id] * (longest - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.2, loss  # no less is to be had: the question itself is not known beforehand
    return model.eval()


@pytest.fixture(scope="session")
def custom_folder(learned, tokenizer, tmp_path_factory) -> Path:
    """As training saves it: opens with this package, or with `trust_remote_code`."""
    folder = tmp_path_factory.mktemp("custom")
    learned.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def exported_folder(learned, tokenizer, tmp_path_factory) -> Path:
    """The same model as a plain GPT-2."""
    return save_as_hf_gpt2(learned, tokenizer, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def answers(learned, tokenizer) -> dict[str, str]:
    """{prompt: what the model continues it with}, as every tool must continue it, too."""
    written = {}
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        continued = learned.generate(ids, max_new_tokens=40, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        written[prompt] = tokenizer.decode(continued[0, ids.shape[1] :])
        assert written[prompt] == answer
    return {prompt: text.removesuffix(tokenizer.eos_token) for prompt, text in written.items()}
