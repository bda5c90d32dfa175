"""One HTML file that plays a recording while a cursor moves over its turns and similarity curves; turns are listed,
speakers are renamed and all of it is saved there as RTTM, JSON, CSV or SRT.

Nothing is fetched: audio (Ogg Opus), numbers, style and script are in the file, and its policy forbids all else.
"""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from diarization.pipeline import Diarization
from diarization.plots import colors
from utils.audio.codecs import opus_bytes

TEMPLATE = Path(__file__).with_name("page.html")
SCRIPT = Path(__file__).with_name("page.js")


def to_html(result: Diarization, title: str) -> str:
    """The page, whole; `title` and the speakers' names are shown as they are, whatever is in them."""
    page = Template(TEMPLATE.read_text(encoding="utf-8"))
    return page.substitute(
        title=html.escape(title),
        audio=base64.b64encode(opus_bytes(result.audio)).decode("ascii"),
        data=for_script(as_data(result, title)),
        script=SCRIPT.read_text(encoding="utf-8"),
    )


def as_data(result: Diarization, title: str = "") -> dict[str, Any]:
    """What the script draws: names, colors, turns [start, stop, index], times and cosines of the windows."""
    names = result.names
    index = {name: i for i, name in enumerate(names)}
    return {
        "recording": title,
        "names": names,
        "colors": [colors(names)[name] for name in names],
        "seconds": round(result.audio.seconds, 3),
        "turns": [[round(t.start, 3), round(t.stop, 3), index[t.speaker]] for t in result.turns],
        "times": np.round(result.times, 2).tolist(),
        "cosines": [np.round(column.astype(float), 3).tolist() for column in result.cosines.T],
        "gap": result.longest_step,
    }


def for_script(data: Any) -> str:
    """JSON that cannot end the element it stands in: no `<`, `>` or `&`, whatever the names are."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
