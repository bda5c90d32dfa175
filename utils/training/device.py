"""The device and number format of a run, by Accelerate."""

from __future__ import annotations

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from utils import precision
from utils.errors import CloningError


def open_accelerator(device: str, number_format: precision.Precision) -> Accelerator:
    """An Accelerator on `device` (auto, cpu or cuda). Raises CloningError: another name, or no CUDA here."""
    if device not in ("auto", "cpu", "cuda"):
        raise CloningError(f"device {device!r}: choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise CloningError("device cuda: this machine or this torch has no CUDA; use cpu")
    kind = PartialState(cpu=device == "cpu").device.type
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision.resolve(number_format, kind))
    if accelerator.device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32
    return accelerator


def close_accelerator(accelerator: Accelerator) -> None:
    """End its process group; the next run may choose another device or number format."""
    accelerator.free_memory()  # it holds the wrapped modules, which hold the process group
    accelerator.end_training()
    AcceleratorState._reset_state(reset_partial_state=True)
