"""The chain on three files of the published layout in their full size, with random weights: keys, shapes, dtypes and
optimizer states as the peer wrote them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.conftest import DATA, ROOT
from utils.weights.checkpoint import load_weights
from utils.weights.published import SIZES
from voice_cloner import VoiceCloner

CLIP = ROOT / "samples" / "austen_0890.wav"
CONSTANTS = {"step": 428_000, "stop_threshold": -3.4, "decoder.r": 2}


def published_content(stage: str) -> dict:
    """What the peer's training script handed to torch.save: the weights, and Adam's two averages of each of them."""
    layout = json.loads((DATA / "state_dicts.json").read_text(encoding="utf-8"))[stage]["model_state"]
    random = torch.Generator().manual_seed(0)
    state, moments = {}, {}
    for name, shape, dtype in layout:
        kind = getattr(torch, dtype)
        if name in CONSTANTS:
            state[name] = torch.full(shape, CONSTANTS[name], dtype=kind)
        elif name.endswith("running_var"):
            state[name] = torch.ones(shape)
        elif kind.is_floating_point:
            state[name] = torch.randn(shape, generator=random) * 0.05
        else:
            state[name] = torch.zeros(shape, dtype=kind)
        if kind.is_floating_point and not name.endswith(("running_var", "running_mean")) and shape:
            zero = torch.zeros(shape)
            moments[len(moments)] = {"step": 428_000, "exp_avg": zero, "exp_avg_sq": zero.clone()}
    groups = [{"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "params": list(moments)}]
    content = {"model_state": state, "optimizer_state": {"state": moments, "param_groups": groups}}
    return {"step": 1_564_501, **content} if stage == "encoder" else content


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "before torch 1.6"])
def folder(request, tmp_path_factory):
    made = tmp_path_factory.mktemp("published")
    for stage in ("encoder", "synthesizer", "vocoder"):
        torch.save(published_content(stage), made / f"{stage}.pt", _use_new_zipfile_serialization=request.param)
    yield made
    for file in made.iterdir():
        file.unlink()  # 440 MB


def test_the_files_are_as_long_as_the_published_ones(folder):
    for name, size in SIZES.items():
        assert (folder / name).stat().st_size == pytest.approx(size, rel=0.01), name


def test_the_chain_speaks_with_them(folder):
    cloner = VoiceCloner.load(folder, device="cpu", allow_mismatch=True)  # the encoder is not the published one
    cloning = cloner.clone(CLIP, "Hi.", seed=3)
    assert len(cloning.audio) > 0 and np.isfinite(cloning.audio.samples).all()
    assert cloning.audio.sample_rate == 16000


@pytest.mark.parametrize("stage", ["encoder", "synthesizer", "vocoder"])
def test_every_weight_is_read_and_none_of_the_optimizer(folder, stage):
    expected = published_content(stage)["model_state"]
    found = load_weights(folder / f"{stage}.pt")
    assert found.published and found.state.keys() == expected.keys()
    assert all(torch.equal(found.state[name], expected[name]) for name in expected)
