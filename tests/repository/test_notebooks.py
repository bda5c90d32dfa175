"""Every notebook runs from top to bottom, and is kept without its outputs."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_stripped(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


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
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    client = nbclient.NotebookClient(notebook, km=manager, timeout=3600)
    try:
        client.execute()
    finally:
        client.kc.stop_channels()  # else they complain when they are collected, in another test
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert not any(output.output_type == "error" for output in shown)
