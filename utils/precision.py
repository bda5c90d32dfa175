"""Which number format training multiplies in: bfloat16 pays only where the hardware has it."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "no", "bf16", "fp16"]  # no: float32 throughout


def resolve(precision: Precision, device: str) -> Literal["no", "bf16", "fp16"]:
    """`precision`, with "auto" made bf16 where `device` ("cpu", "cuda", ...) multiplies it in hardware, else no."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(device) else "no"


def has_bf16(device: str) -> bool:
    """Whether products of bfloat16 are the hardware's own on `device`; emulated, they are slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    if not torch.cpu._is_avx2_supported():  # not x86; ARM has a library that uses it
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    held_back = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2")  # perhaps by the environment
    return not held_back and any(_cpu_has(feature) for feature in ("avx512_bf16", "amx_tile"))


def describe(asked: Precision, device: str) -> str:
    """For a log: `fp32 (auto: ...)`."""
    found = resolve(asked, device)
    name = "fp32" if found == "no" else found
    if asked != "auto":
        return name
    return f"{name} (auto: the {device.upper()} has {'' if found == 'bf16' else 'no '}bf16 in hardware)"


def _cpu_has(feature: str) -> bool:
    return getattr(torch.cpu, f"_is_{feature}_supported", lambda: False)()  # torch 2.5 lacks some
