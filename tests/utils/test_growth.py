"""A process that speaks texts of ever other lengths keeps the kernels of a few of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils import KERNELS
from utils.linear import _has_onednn

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
