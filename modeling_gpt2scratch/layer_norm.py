"""Layer normalisation: each token's vector is brought to mean 0 and variance 1, then scaled and shifted."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """`(x - mean) / sqrt(variance + epsilon) * weight + bias` over the last dimension (Ba et al., 2016), written out.

    The variance divides by C, not by C - 1: it describes these C numbers, it does not estimate a population.
    """
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x - mean).pow(2).mean(dim=-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + epsilon) * weight + bias


class LayerNorm(nn.Module):
    """`layer_norm` with a learned scale and shift; (..., C) in, (..., C) out.

    Identical to `torch.nn.LayerNorm`, except that it is not a subclass: the Trainer exempts it from weight decay by the
    name of its attribute, so name that `*_norm`.
    """

    def __init__(self, size: int, epsilon: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        # Equal to layer_norm(x, ...), fused: one pass over memory, in float32 under autocast.
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)
