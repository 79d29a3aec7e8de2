"""For each process: steps of a model whose weights are sharded (FSDP2), compared with one that is whole.

The main process writes the losses of both and the largest difference of any weight.
"""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, causal_lm
from train.optim.parameter_groups import MuonWithAdamW


def build():
    torch.manual_seed(0)
    return GPT2ScratchForCausalLM(
        GPT2ScratchConfig(
            vocab_size=301, n_layer=2, n_head=2, n_embd=16, n_positions=32, embd_pdrop=0, attn_pdrop=0, resid_pdrop=0
        )
    ).train()


def step(model):
    hidden = [parameter for name, parameter in model.named_parameters() if name.endswith("proj.weight")]
    others = [parameter for name, parameter in model.named_parameters() if not name.endswith("proj.weight")]
    group = {"lr": 0.01, "weight_decay": 0.1}
    groups = [{"params": others, **group}, {"params": hidden, "momentum": 0.95, **group}]
    optimizer = MuonWithAdamW(groups, betas=(0.9, 0.99), epsilon=1e-8)
    losses = []
    for number in range(3):
        ids = torch.randint(301, (4, 32), generator=torch.Generator().manual_seed(number))
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def whole(parameter):
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def compare(result_file: Path) -> int:
    calls = []
    original = causal_lm.next_token_loss
    causal_lm.next_token_loss = lambda *arguments, **kwargs: calls.append(1) or original(*arguments, **kwargs)
    dist.init_process_group("gloo")
    reference, sharded = build(), build()
    for block in sharded.transformer.blocks:
        fully_shard(block)
    fully_shard(sharded)
    expected = step(reference)
    found = step(sharded)
    pairs = zip(reference.parameters(), sharded.parameters(), strict=True)
    difference = max((a - whole(b)).abs().max().item() for a, b in pairs)
    sharded_parameters = sum(isinstance(parameter, DTensor) for parameter in sharded.parameters())
    if dist.get_rank() == 0:
        result = {
            "expected": expected,
            "found": found,
            "difference": difference,
            "sharded_parameters": sharded_parameters,
            "losses_without_logits": len(calls),
        }
        result_file.write_text(json.dumps(result))
    dist.destroy_process_group()
    return 0
