"""Run the notebooks and keep small outputs in them: pictures of few colors, sound as Ogg Opus, paths of no machine.

Needs requirements/dev.txt and notebooks.txt: `python notebooks/store_outputs.py [NOTEBOOK ...]` (default: all).
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from utils.audio.codecs import opus_bytes  # noqa: E402
from utils.audio.io import read  # noqa: E402

COLORS = 32  # of a picture
TEMPORARY = re.compile(re.escape(os.path.join(tempfile.gettempdir(), "tmp")) + r"\w+")
WAV = re.compile(r"data:audio/wav;base64,([A-Za-z0-9+/=]+)")


def stored(notebook: Any) -> Any:
    """The notebook as executed, its outputs made small in place; what went to stderr (progress) is left out."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
        if cell.cell_type == "code":
            cell.outputs = [_small(output) for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def _small(output: Any) -> Any:
    data = output.get("data", {})
    if "image/png" in data:
        data["image/png"] = _few_colors(data["image/png"])
    if "text/html" in data:
        data["text/html"] = WAV.sub(lambda found: _as_opus(found[1]), _without_paths(data["text/html"]))
    if "text/plain" in data:
        data["text/plain"] = _without_paths(data["text/plain"])
    if "text" in output:
        output.text = _without_paths(output.text)
    return output


def _few_colors(png: str) -> str:
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _as_opus(wav: str) -> str:
    sound = opus_bytes(read(base64.b64decode(wav), sample_rate=None))
    return "data:audio/ogg;base64," + base64.b64encode(sound).decode("ascii")


def _without_paths(text: str) -> str:
    text = TEMPORARY.sub("...", text)
    return text.replace(f"{HERE.parent}{os.sep}", "").replace(str(HERE.parent), ".")


def main(argv: list[str] | None = None) -> int:
    """Execute and write the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all of this folder")
    for path in parser.parse_args(argv).notebooks or sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        nbclient.NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(HERE)}}).execute()
        nbformat.write(stored(notebook), path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
