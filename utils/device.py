"""Where networks run."""

from __future__ import annotations

import torch

from utils.errors import CloningError


def pick_device(name: str) -> str:
    """auto: CUDA where there is one, else the CPU. CloningError for a device that is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda", "mps"):
        raise CloningError(f"device {name!r}: choose auto, cpu, cuda or mps")
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise CloningError(f"device {name}: not available to this torch ({torch.__version__}); use cpu")
    return name
