"""Every notebook runs from top to bottom, and is kept with small outputs of the same kinds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"server": ("fastapi", "uvicorn", "python_multipart", "prometheus_client"), "voices": ("pocketsphinx",)}
FOUND = 'if not find_spec("voice_cloner"):'  # in the first cell: a notebook lies in a checkout, or anywhere
SMALLER = {  # as little as shows that it works
    "speaker_embeddings": ("overlap=0.75", "overlap=0"),
    "voices": ("seconds=15", "seconds=5"),
}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BASE64 = re.compile(r"[A-Za-z0-9+/=]{200,}")
LARGEST = 400_000  # bytes of a notebook with its outputs
PATHS = re.compile(r"/(home|root|tmp|Users|work|var|opt)/|[A-Z]:\\\\|object at 0x")


def kinds(notebook: Any) -> list[set[str]]:
    """What each code cell shows: types of its data, "stdout" where it prints."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = [{kind for output in cell.outputs for kind in output.get("data", [output.get("name")])} for cell in cells]
    return [each - {"stderr"} for each in found]  # progress


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_stored(path):
    """By notebooks/store_outputs.py: from one run, no error, small, without paths of a machine or wav in base64."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = BASE64.sub("", json.dumps(outputs))
    assert not PATHS.search(text) and "audio/wav" not in text
    assert path.stat().st_size <= LARGEST


@pytest.fixture(scope="module")
def manager() -> Iterator[Any]:
    """One kernel for all: to load torch takes longer than most notebooks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # other tests have the other cores
        client = nbclient.NotebookClient(nbformat.v4.new_notebook(), startup_timeout=600)
        client.create_kernel_manager()
        client.start_new_kernel(cwd=str(ROOT / "notebooks"))
        yield client.km
        nbclient.util.run_sync(client.km.shutdown_kernel)(now=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path, manager):
    for package in ("ipykernel", "umap", "matplotlib", *NEEDED.get(path.stem, ())):
        pytest.importorskip(package)
    if not (ROOT / "saved_models" / "default" / "encoder.safetensors").is_file():
        pytest.skip("no saved_models/default/encoder.safetensors")
    text = path.read_text(encoding="utf-8")
    if path.stem in SMALLER:
        assert SMALLER[path.stem][0] in text
        text = text.replace(*SMALLER[path.stem])
    notebook = nbformat.reads(text, as_version=4)
    assert FOUND in next(cell.source for cell in notebook.cells if cell.cell_type == "code")  # others' would serve
    stored = kinds(notebook)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    client = nbclient.NotebookClient(notebook, km=manager, timeout=3600)
    try:
        client.execute()
    finally:
        client.kc.stop_channels()  # else they complain when they are collected, in another test
    assert kinds(notebook)[1:] == stored
