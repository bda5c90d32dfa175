"""A process that speaks texts of ever other lengths keeps the kernels of a few of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiny import save_tiny_models
from utils import KERNELS
from utils.linear import _has_onednn
from voice_cloner import VoiceCloner

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")
SETTING = f"import os, voice_cloner; print(*(os.environ.get(name) for name in {NAMES}))"
MANY = """
import voice_cloner, torch
from utils.linear import Linear
from benchmarks.growth import resident
torch.set_num_threads(1)
layer = Linear(256, 256).eval()
with torch.inference_mode():
    for rows in range(100, 500):
        layer(torch.zeros(rows, 256))
        if rows == 250:
            before = resident()
print(resident() - before)
"""


FREED = """
import ctypes, sys, numpy as np, utils
from benchmarks.growth import resident
if not hasattr(ctypes.CDLL(None), "malloc_trim"):
    print("none"), sys.exit()
arrays = [np.ones(100_000, np.uint8) for _ in range(1000)]  # too small to be mapped each by itself
del arrays[:-1]  # the last one stands at the end of the heap
before = resident()
utils.return_memory()
print(before - resident())
"""


def python(code: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | variables
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what is resident")
@pytest.mark.skipif(not _has_onednn(), reason="this torch has no oneDNN")
def test_kernels_of_other_lengths_take_no_more_room():
    """After 150 lengths all places are taken; 249 more would take 60 MiB at 0.25 each."""
    assert float(python(MANY)) < 15


def test_what_the_user_has_set_is_kept():
    assert python(SETTING) == f"{KERNELS} {KERNELS} None"
    assert python(SETTING, LRU_CACHE_CAPACITY="9", DNNL_PRIMITIVE_CACHE_CAPACITY="8") == "9 None 8"


def test_training_keeps_all():
    assert python("import os, vocoder_train, utils.training.loop; print('LRU_CACHE_CAPACITY' in os.environ)") == "False"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what is resident")
def test_what_was_freed_below_something_kept_is_given_back():
    freed = python(FREED)
    if freed == "none":
        pytest.skip("the C library of this system has no malloc_trim")
    assert float(freed) > 80  # MiB of 95


def test_memory_is_given_back_after_every_text(tmp_path, monkeypatch):
    save_tiny_models(tmp_path)
    given = []
    monkeypatch.setattr("utils.return_memory", lambda: given.append(1))
    cloner = VoiceCloner.load(tmp_path)
    clip = ROOT / "samples" / "austen_0870.wav"
    cloner.clone(clip, "Hello.", seed=1)
    assert len(given) == 1
    assert list(cloner.stream(clip, "Hello.", seed=1)) and len(given) == 2
