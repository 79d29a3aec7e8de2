"""Muon: momentum whose matrices are orthogonalized before they are added to the weights.

An update of a weight matrix usually has a few large singular values; setting all of them to about one makes every
direction learn at the same speed (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/).
"""

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from train.sharding import to_shard, to_whole


# The quintic a X + b (X X^T) X + c (X X^T)^2 X drives singular values in (0, 1] towards one; Jordan's coefficients,
# chosen for a steep slope at zero, leave them between about 0.7 and 1.2, which trains as well as exactly one.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# AdamW's updates have a root mean square of 0.2 to 0.4 per weight (Liu et al., 2025, "Muon is scalable for LLM
# training", section 2.2): scaled to 0.2, Muon takes AdamW's learning rate and weight decay.
UPDATE_RMS = 0.2
GATHERED_AT_ONCE = 4  # matrices of a model in shards; each process orthogonalizes all of them


def newton_schulz(matrices: Tensor, in_bf16: bool = False) -> Tensor:
    """The nearest (semi-)orthogonal matrices, about: `U V^T` for `U S V^T`; (N, rows, columns) in and out.

    In bfloat16 on accelerators, which is precise enough. On CPUs only where `in_bf16` says so: with units for it that
    takes a third of the time of float32, and without them 40 times as long.
    """
    a, b, c = COEFFICIENTS
    X = matrices.float() if matrices.device.type == "cpu" and not in_bf16 else matrices.bfloat16()
    is_tall = X.shape[-2] > X.shape[-1]
    if is_tall:  # the products are of the smaller side
        X = X.mT
    X = X / X.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # no singular value above one
    for _ in range(ITERATIONS):
        gram = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), X, beta=a)
    return X.mT if is_tall else X


@torch.no_grad()
def take_muon_step(group: dict[str, Any], state: dict[Tensor, Any], in_bf16: bool = False) -> None:
    """Identical to a step of `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, except that matrices of one shape are
    orthogonalized together, in the precision that suits the device, and that matrices may be sharded (DTensors).

    At width 96 on two CPU cores the stacks take a third of the time of single matrices; on a GPU the 72 matrices of
    GPT-2 124M become three batches of products.

    The group has `lr`, `weight_decay` and `momentum`; the state gets a `momentum_buffer` for each parameter. Parameters
    without a gradient stay as they are.
    """
    by_shape = defaultdict(list)
    for parameter in group["params"]:
        if parameter.grad is not None:
            by_shape[parameter.shape].append(parameter)
    for shape, alike in by_shape.items():
        step_size = group["lr"] * UPDATE_RMS * math.sqrt(max(shape))
        size = GATHERED_AT_ONCE if isinstance(alike[0], DTensor) else len(alike)
        for start in range(0, len(alike), size):
            parameters = alike[start : start + size]
            directions = [_direction(parameter.grad, state[parameter], group["momentum"]) for parameter in parameters]
            for parameter, update in zip(parameters, newton_schulz(torch.stack(directions), in_bf16), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(to_shard(update.to(parameter.dtype), parameter), alpha=-step_size)


def _direction(gradient: Tensor, state: dict[str, Tensor], momentum: float) -> Tensor:
    """The gradient's moving average, looked at one step ahead (Nesterov); whole, also where it is sharded."""
    if "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(gradient)
    average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
    return to_whole(gradient.lerp(average, momentum))
