"""Linear layers made faster for the few rows of a generation step on CPUs."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit._trace import is_tracing
from torch.overrides import TorchFunctionMode


# Up to so many rows were measured: for one row of GPT-2 124M oneDNN's product takes half the time of `F.linear`'s
# (3072 x 768: 0.36 ms for 0.71, the head: 5.7 ms for 11.7), for 64 rows 0.5 to 0.8 of it.
MOST_ROWS = 64


def fast_for_few_rows(forward):
    """Decorates a model's `forward`: skippable, as the results differ by rounding alone.

    torch calls oneDNN's product for 16-bit numbers only. Without gradients, plain float32 weights on a CPU and few rows
    are handed to it directly. Each call of `F.linear` is intercepted, so the blocks call their layers as written, and
    LoRA, quantisers and vLLM, which look for `nn.Linear` and for `self.q_proj(x)`, find both.
    """

    @functools.wraps(forward)
    def run(*args, **kwargs):
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or is_tracing():
            return forward(*args, **kwargs)
        with _FewRowsToOneDNN():
            return forward(*args, **kwargs)

    return run


class _FewRowsToOneDNN(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.linear and not kwargs and _suits_onednn(*args):
            x, weight, bias = args if len(args) == 3 else (*args, None)
            return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return func(*args, **(kwargs or {}))


def _suits_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    if type(x) is not Tensor or type(weight) is not nn.Parameter:  # a quantised weight, a fake or a sharded tensor
        return False
    is_float32_on_cpu = x.device.type == weight.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    has_few_rows = 0 < x.numel() <= MOST_ROWS * x.shape[-1]
    return is_float32_on_cpu and has_few_rows and torch.backends.mkldnn.is_available()
