"""bfloat16 is chosen where the hardware multiplies it, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from utils.precision import describe, has_bf16, resolve


@pytest.fixture
def processor(monkeypatch):
    """A processor with some features, in place of this one."""

    def pretend(capability: str, *features: str, arm: bool = False) -> None:
        for feature in ("avx2", "avx512_bf16", "amx_tile"):
            answer = feature in features or (feature == "avx2" and not arm)
            monkeypatch.setattr(torch.cpu, f"_is_{feature}_supported", lambda answer=answer: answer, raising=False)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)

    return pretend


@pytest.mark.parametrize(
    "capability, features, expected",
    [
        ("AVX2", (), "no"),
        ("AVX512", (), "no"),  # Skylake, Cascade Lake: oneDNN takes bf16 there, and emulates it
        ("AVX512", ("avx512_bf16",), "bf16"),
        ("AVX512", ("amx_tile",), "bf16"),
        ("AVX2", ("avx512_bf16",), "no"),  # ATEN_CPU_CAPABILITY=avx2
        ("DEFAULT", ("avx512_bf16",), "no"),
    ],
)
def test_auto_is_what_the_processor_has(processor, capability, features, expected):
    processor(capability, *features)
    assert resolve("auto", "cpu") == expected
    assert describe("auto", "cpu").startswith("fp32" if expected == "no" else "bf16")


@pytest.mark.parametrize("supported", [True, False])
def test_auto_asks_the_gpu_for_hardware_not_emulation(monkeypatch, supported):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(1) or supported)
    assert has_bf16("cuda") is supported and asked
    assert not has_bf16("mps")


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_what_is_asked_for_by_name_is_taken(processor, precision):
    processor("AVX2")
    assert resolve(precision, "cpu") == precision


def test_a_processor_held_back_by_the_environment_computes_in_float32():
    code = "from utils.precision import resolve; print(resolve('auto', 'cpu'))"
    env = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    if torch.cpu._is_avx2_supported():
        assert done.stdout.strip() == "no"
