"""GELU, the activation of the feed-forward layer, in the form that GPT-2 uses."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gelu_tanh(x: Tensor) -> Tensor:
    """`0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, written out.

    The tanh approximation of `x * P(N(0, 1) <= x)` (Hendrycks and Gimpel, 2016, section 2); both constants are theirs.
    GPT-2 was trained with the approximation, so the exact function would not reproduce it.
    """
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x.pow(3))))


class GELU(nn.Module):
    """Element-wise `gelu_tanh`; any shape in, the same shape out."""

    def forward(self, x: Tensor) -> Tensor:
        # Equal to gelu_tanh(x), in one pass over memory instead of eight, and with one saved tensor instead of seven.
        return F.gelu(x, approximate="tanh")
