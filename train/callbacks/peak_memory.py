"""The most memory that this process has held."""

import re
import sys
from pathlib import Path

import torch


def peak_memory_bytes(device: torch.device) -> int:
    """On CPUs all memory of the process that was resident at once, else what torch had allocated on the device; 0 where
    the system does not tell (Windows)."""
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()  # torch keeps what it once took, and knows no peak
    if device.type != "cpu":
        return torch.accelerator.max_memory_allocated(device)
    if sys.platform == "linux":
        # Not getrusage: its figure begins with that of the process which started this one.
        match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert match is not None
        return int(match[1]) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
