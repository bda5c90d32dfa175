"""How idle threads wait is settled before torch is loaded, through whatever door one comes in."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("utils", "encoder", "synthesizer", "vocoder", "diarization", "cloning", "evaluation", "web")

# Imports every module afresh, up to where it asks for torch, and says what the policy was by then.
EACH_MODULE = """
import importlib, json, os, sys
sys.path[:0] = ["benchmarks", "."]

class Asked(BaseException):
    pass

class Torch:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "torchaudio"):
            raise Asked

sys.meta_path.insert(0, Torch())
found = {}
for name in json.loads(sys.argv[1]):
    for loaded in [key for key in sys.modules if key.split(".")[0] in json.loads(sys.argv[2])]:
        del sys.modules[loaded]
    os.environ.pop("OMP_WAIT_POLICY", None)
    try:
        importlib.import_module(name)
    except Asked:
        found[name] = os.environ.get("OMP_WAIT_POLICY")
print(json.dumps(found))
"""


def python(code: str, *arguments: str, **variables: str) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def test_every_module_settles_it_before_it_loads_torch():
    scripts = [path.stem for folder in (ROOT, ROOT / "benchmarks") for path in folder.glob("*.py")]
    inner = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts) for name in PACKAGES for p in (ROOT / name).rglob("*.py")
    ]
    names = scripts + [name.removesuffix(".__init__") for name in inner]
    found = json.loads(python(EACH_MODULE, json.dumps(names), json.dumps([*PACKAGES, *scripts])))
    assert {"voice_cloner", "synthesizer_train", "wavernn", "web.work", "utils.training.loop"} <= found.keys()
    assert {name: policy for name, policy in found.items() if policy != "passive"} == {}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_load_us_before_torch(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "code" for line in cell["source"]]
    modules = [words[1].split(".")[0] for words in map(str.split, lines) if words[:1] in (["import"], ["from"])]
    assert "torch" not in itertools.takewhile(lambda name: name not in (*PACKAGES, "voice_cloner"), modules)


@pytest.mark.parametrize("variable, value", [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "500")])
def test_what_the_user_has_set_is_kept(variable, value):
    code = "import os, utils; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
    expected = {"OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": None} | {variable: value}
    assert python(code, **{variable: value}) == " ".join(map(str, expected.values()))
