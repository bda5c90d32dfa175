"""One HTML file that plays a recording while a cursor moves over its turns and similarity curves.

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


def to_html(result: Diarization, title: str) -> str:
    """The page, whole; `title` and the speakers' names are shown as they are, whatever is in them."""
    table = "".join(
        f'<tr><td><i style="background:{_color(result, name)}"></i>{html.escape(name)}</td>'
        f"<td>{seconds:.1f} s</td><td>{100 * seconds / max(result.audio.seconds, 1e-9):.0f}%</td><td>{turns}</td></tr>"
        for name, (seconds, turns) in result.talk_time().items()
    )
    page = Template(TEMPLATE.read_text(encoding="utf-8"))
    return page.substitute(
        title=html.escape(title),
        table=table,
        audio=base64.b64encode(opus_bytes(result.audio)).decode("ascii"),
        data=for_script(as_data(result)),
    )


def as_data(result: Diarization) -> dict[str, Any]:
    """What the script draws: names, colors, turns [start, stop, index], times and cosines of the windows."""
    names = list(dict.fromkeys([*result.speakers, *(turn.speaker for turn in result.turns)]))
    index = {name: i for i, name in enumerate(names)}
    return {
        "names": names,
        "colors": [colors(names)[name] for name in names],
        "seconds": round(result.audio.seconds, 3),
        "turns": [[round(t.start, 2), round(t.stop, 2), index[t.speaker]] for t in result.turns],
        "times": np.round(result.times, 2).tolist(),
        "cosines": [np.round(column.astype(float), 3).tolist() for column in result.cosines.T],
        "gap": 2 * result.settings.hop + result.settings.max_pause,
    }


def for_script(data: Any) -> str:
    """JSON that cannot end the element it stands in: no `<`, `>` or `&`, whatever the names are."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _color(result: Diarization, name: str) -> str:
    names = list(dict.fromkeys([*result.speakers, *(turn.speaker for turn in result.turns)]))
    return colors(names)[name]
