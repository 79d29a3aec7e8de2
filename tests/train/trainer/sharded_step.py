"""For each process: steps of a model whose weights are sharded (FSDP2), compared with one that is whole.

The main process writes the losses of both, and of one that transformers has sharded as it opened it, and the largest
difference of any weight.
"""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers.distributed import DistributedConfig

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, causal_lm
from train.optim.parameter_groups import MuonWithAdamW
from train.sharding import shard_model, to_whole


STEPS = 6


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
    for number in range(STEPS):
        ids = torch.randint(301, (4, 32), generator=torch.Generator().manual_seed(number))
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def compare(result_file: Path) -> int:
    calls = []
    original = causal_lm.next_token_loss
    causal_lm.next_token_loss = lambda *arguments, **kwargs: calls.append(1) or original(*arguments, **kwargs)
    dist.init_process_group("gloo")
    reference, sharded, saved, sizes = build(), build(), result_file.parent / "saved", DistributedConfig(fsdp_size=2)
    shard_model(sharded, sizes)
    if dist.get_rank() == 0:
        reference.save_pretrained(saved)
    dist.barrier()
    opened = GPT2ScratchForCausalLM.from_pretrained(saved, distributed_config=sizes).train()
    expected = step(reference)
    found = step(sharded)
    found_if_opened = step(opened)
    pairs = zip(reference.parameters(), sharded.parameters(), strict=True)
    difference = max((a - to_whole(b)).abs().max().item() for a, b in pairs)
    sharded_parameters = sum(isinstance(parameter, DTensor) for parameter in sharded.parameters())
    if dist.get_rank() == 0:
        result = {
            "expected": expected,
            "found": found,
            "found_if_opened": found_if_opened,
            "difference": difference,
            "sharded_parameters": sharded_parameters,
            "losses_without_logits": len(calls),
        }
        result_file.write_text(json.dumps(result))
    dist.destroy_process_group()
    return 0
