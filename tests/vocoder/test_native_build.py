"""The native loop's compilation: done once, kept per user, mended when broken, done without where it cannot be."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from utils.errors import CloningError
from utils.native import build
from vocoder.config import WaveRNNConfig
from vocoder.wavernn import library as kernel
from vocoder.wavernn.generate import Generation, best_kernel, generate
from vocoder.wavernn.network import WaveRNN

pytestmark = pytest.mark.slow

QUICK = ("-O0", "-DPLAIN")


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """A cache folder of the test's own; the list grows with every run of the compiler."""
    runs = []
    real = build._compile
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(build, "_compile", lambda *a: (runs.append(a), real(*a)))
    yield runs
    forget()


def forget():
    build.library.cache_clear()
    kernel.library.cache_clear()
    best_kernel.cache_clear()


@pytest.fixture
def with_compiler(compiled):
    forget()
    try:
        kernel.library(QUICK)
    except build.NoCompiler as error:
        pytest.skip(str(error))
    assert len(compiled) == 1
    return compiled


def again() -> None:
    forget()
    assert kernel.library(QUICK).pack() in (2, 4)


def test_compiled_once(with_compiler, tmp_path):
    assert kernel.library(QUICK) is kernel.library(QUICK)
    again()
    assert len(with_compiler) == 1
    assert sorted(p.suffix for p in (tmp_path / "cache").iterdir()) in ([".sha256", ".so"], [".dll", ".sha256"])


def test_another_source_or_other_flags_are_compiled(with_compiler, tmp_path, monkeypatch):
    kernel.library((*QUICK, "-DANYTHING"))
    assert len(with_compiler) == 2
    source = tmp_path / "wavernn.c"
    source.write_text(kernel.SOURCE.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    monkeypatch.setattr(kernel, "SOURCE", source)
    again()
    assert len(with_compiler) == 3


@pytest.mark.parametrize("suffix", [".so", ".sha256"])
@pytest.mark.parametrize("damage", [b"", b"not a library"])
def test_a_damaged_cache_is_mended(with_compiler, tmp_path, suffix, damage):
    path = next(p for p in (tmp_path / "cache").iterdir() if (p.suffix == ".sha256") == (suffix == ".sha256"))
    path.unlink()  # the loaded library is mapped from this file: another one takes its place
    path.write_bytes(damage)
    again()
    assert len(with_compiler) == 2
    again()
    assert len(with_compiler) == 2


def test_a_cache_that_cannot_be_written_costs_time_only(with_compiler, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "file" / "cache")
    again()
    assert len(with_compiler) == 2 and "no cache" in caplog.text


def tiny() -> WaveRNN:
    torch.manual_seed(1)
    sizes = {"rnn_size": 16, "fc_size": 16, "compute_size": 8, "res_out_size": 8, "res_blocks": 1}
    return WaveRNN(WaveRNNConfig(**sizes, bits=6, upsample=(2, 3)), 10).eval().requires_grad_(False)


@pytest.mark.parametrize("trouble", ["none", "fails"])
def test_without_a_compiler_torch_does_it_and_one_line_says_so(compiled, monkeypatch, caplog, trouble):
    if trouble == "none":
        monkeypatch.setattr(build, "COMPILERS", ("no-such-compiler",))
    else:
        monkeypatch.setattr(build, "FLAGS", ("--no-such-flag",))
    forget()
    model, mel = tiny(), torch.randn(10, 6)
    with caplog.at_level(logging.WARNING):
        wavs = [generate(model, mel, seed=3, how=Generation(folded=False)) for _ in range(2)]
    assert len(caplog.records) == 1 and "in torch" in caplog.records[0].getMessage()
    torch_does = generate(model, mel, seed=3, how=Generation(folded=False, kernel="torch"))
    np.testing.assert_array_equal(wavs[0], torch_does)
    with pytest.raises(CloningError, match="no working C compiler"):
        generate(model, mel, seed=3, how=Generation(kernel="int8"))


def test_a_mixture_is_not_for_the_kernel():
    config = WaveRNNConfig(rnn_size=8, fc_size=8, compute_size=8, res_out_size=8, res_blocks=1, mode="mol")
    with pytest.raises(CloningError, match='mode "raw" only'):
        generate(WaveRNN(config, 80).eval(), torch.randn(80, 3), seed=0, how=Generation(kernel="fp32"))


def test_a_kernel_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="auto, int8, fp32, torch"):
        Generation(kernel="int4")
