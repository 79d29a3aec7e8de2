"""The arithmetic of a model, and the peak of a device."""

import time

import torch
from transformers import PretrainedConfig


# Dense bfloat16 matrix products, in FLOP/s, from the makers' data sheets (they print twice as much with sparsity).
# A device is known by the first of these names that its own contains.
DATA_SHEET_BF16 = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 5090": 209e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def flops_per_token(config: PretrainedConfig, sequence_tokens: int, training: bool = True) -> int:
    """Floating-point operations that a token takes, forward and (in training) backward.

    2 per weight forward and 4 backward (Kaplan et al., 2020, section 2.1). The token embedding counts, since it is the
    head, too; the position embedding is only looked up, and does not count. Attention adds 12 L C T, as if each query
    looked at all T keys (Chowdhery et al., 2022, appendix B). Recomputation does not count.
    """
    C, L = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "n_inner", None) or 4 * C
    block = 4 * C * C + 2 * C * inner + inner + 9 * C
    weights = L * block + 2 * C + config.vocab_size * C
    forward_and_backward = 6 * weights + 12 * L * C * sequence_tokens
    return forward_and_backward if training else forward_and_backward // 3


def measured_peak_flops(
    device: torch.device, dtype: torch.dtype, seconds: float = 1.0, size_on_gpus: int = 8192
) -> float:
    """FLOP/s of the best of several products of two square matrices, large enough to keep the device busy."""
    size = 2048 if device.type == "cpu" else size_on_gpus
    generator = torch.Generator(device).manual_seed(0)  # of its own, or a run would draw other numbers after this
    a, b = (torch.randn(size, size, device=device, dtype=dtype, generator=generator) for _ in range(2))
    out = a @ b
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end or not best:
        wait_for(device)
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        wait_for(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def data_sheet_peak_flops(device: torch.device) -> float | None:
    """The maker's figure for bfloat16, where the device is in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in DATA_SHEET_BF16.items() if known in name), None)


def wait_for(device: torch.device) -> None:
    """Return once the device has done all that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
