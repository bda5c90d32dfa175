"""What an evaluation found: JSON for machines, one self-contained HTML page for people."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.cache import plain
from evaluation.metrics.scores import Interval
from utils.audio.io import Waveform, resample
from utils.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAYER_BUDGET = 20_000_000  # bytes of audio in one page, before base64 makes it a third more
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1500px;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.6em 0}
td,th{padding:.25em .6em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child,.facts td{text-align:left}th{background:#f4f4f4;vertical-align:bottom}
small{color:#777;white-space:nowrap}p small{white-space:normal}.empty{color:#a55}
sup{line-height:0}.players td:first-child{min-width:16em}
.numbers td:first-child,.facts td:first-child{white-space:nowrap}
.wide{overflow-x:auto}img{max-width:100%}audio{width:190px;height:32px}h2{margin-top:2em}
"""


@dataclass(frozen=True)
class Cell:
    """A number with its interval, a word, or nothing and the reason why."""

    value: float | str | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @staticmethod
    def of(value: Interval | float | str | None, reason: str = "") -> Cell:
        """From an interval, a number or a word; what is not a number becomes an empty cell."""
        low = high = None
        if isinstance(value, Interval):
            value, low, high = plain(list(value))
        elif isinstance(value, float):
            value = plain(value)
        return Cell(value, low, high, reason or "nothing to measure" if value is None else "")

    def text(self, digits: int) -> str:
        """As in a Markdown table: `12.3 [11.0, 14.1]`, or a dash."""
        if self.value is None:
            return "-"
        if isinstance(self.value, str):
            return self.value
        interval = "" if self.low is None or self.high is None else f" [{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return f"{self.value:.{digits}f}{interval}"


@dataclass
class Table:
    """Rows of cells; `columns` maps a heading to its number of digits."""

    title: str
    columns: dict[str, int]
    rows: list[tuple[str, dict[str, Cell]]] = field(default_factory=list)
    note: str = ""

    def add(self, name: str, cells: Mapping[str, Cell]) -> None:
        self.rows.append((name, dict(cells)))

    def markdown(self) -> str:
        """For model cards and terminals."""
        lines = [["", *self.columns], ["---"] * (len(self.columns) + 1)]
        for name, cells in self.rows:
            lines.append([name, *(cells.get(c, Cell(None)).text(digits) for c, digits in self.columns.items())])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@dataclass
class Players:
    """Samples side by side: a line a sentence, a column a system."""

    title: str
    columns: list[str]
    rows: list[tuple[str, dict[str, Waveform]]] = field(default_factory=list)


@dataclass
class Report:
    """Gathers tables, figures and players in the order in which they are shown."""

    subcommand: str
    facts: dict[str, Any]
    missing: list[tuple[str, str]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)  # per-item numbers: JSON only
    parts: list[Table | Players | tuple[str, Figure]] = field(default_factory=list)
    exit_code: int = 0  # of evaluate.py, where the answer is yes or no

    @property
    def tables(self) -> list[Table]:
        return [part for part in self.parts if isinstance(part, Table)]

    def write(self, folder: Path) -> tuple[Path, Path]:
        """`<folder>/<subcommand>.json` and `.html`; returns both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder / f"{self.subcommand}.json", folder / f"{self.subcommand}.html"
        for path, text in zip(paths, (json.dumps(plain(self.as_json()), indent=1), self.as_html()), strict=True):
            write_text(path, text)
        return paths

    def as_json(self) -> dict[str, Any]:
        tables = []
        for table in self.tables:
            rows = {name: {column: vars(cell) for column, cell in cells.items()} for name, cells in table.rows}
            tables.append({"title": table.title, "note": table.note, "rows": rows})
        return {
            "subcommand": self.subcommand,
            "facts": self.facts,
            "missing": [{"name": n, "reason": r} for n, r in self.missing],
            "tables": tables,
            "details": self.details,
        }

    def as_html(self) -> str:
        title = f"evaluate.py {self.subcommand}"
        body = [f"<h1>{_esc(title)}</h1>", _facts(self.facts)]
        if self.missing:
            body.append("<h2>Missing</h2><ul>")
            body += [f"<li>{_esc(name)}: {_esc(reason)}</li>" for name, reason in self.missing]
            body.append("</ul>")
        budget = PLAYER_BUDGET
        for part in self.parts:
            if isinstance(part, Table):
                body.append(_table(part))
            elif isinstance(part, Players):
                text, budget = _players(part, budget)
                body.append(text)
            else:
                body.append(f"<h2>{_esc(part[0])}</h2>{_figure(part[1])}")
        head = f'<meta charset="utf-8"><title>{_esc(title)}</title><style>{STYLE}</style>'
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def opus_bytes(waveform: Waveform) -> bytes:
    """Ogg Opus, about 3 kB a second of speech; every present browser plays it."""
    import soundfile

    rates = (8000, 12000, 16000, 24000, 48000)
    if waveform.sample_rate not in rates:
        waveform = Waveform(resample(waveform.samples, waveform.sample_rate, 24000), 24000)
    buffer = io.BytesIO()
    samples = waveform.samples / max(1.0, float(abs(waveform.samples).max(initial=0)))
    soundfile.write(buffer, samples, waveform.sample_rate, format="OGG", subtype="OPUS")
    return buffer.getvalue()


def _players(players: Players, budget: int) -> tuple[str, int]:
    lines = _opening(players.title, players.columns, "players")
    for name, sounds in players.rows:
        lines.append(f"<tr><td>{_esc(name)}</td>")
        for column in players.columns:
            content = b""
            if column in sounds and len(sounds[column]):
                content = opus_bytes(sounds[column])
            if not content or len(content) > budget:
                lines.append(f'<td class="empty">{"left out: page is full" if content else ""}</td>')
                continue
            budget -= len(content)
            data = base64.b64encode(content).decode()
            lines.append(f'<td><audio controls preload="none" src="data:audio/ogg;base64,{data}"></audio></td>')
        lines.append("</tr>")
    return "".join([*lines, "</table></div>"]), budget


def _table(table: Table) -> str:
    lines = _opening(table.title, table.columns, "numbers")
    reasons: dict[str, int] = {}  # of empty cells: said once, under the table
    for name, cells in table.rows:
        lines.append(f"<tr><td>{_esc(name)}</td>")
        for column, digits in table.columns.items():
            cell = cells.get(column, Cell(None, reason="not measured"))
            value, _, interval = cell.text(digits).partition(" [")
            if cell.value is None:
                number = reasons.setdefault(cell.reason, len(reasons) + 1)
                lines.append(f'<td class="empty" title="{_esc(cell.reason)}">–<sup>{number}</sup></td>')
            elif interval and not isinstance(cell.value, str):
                lines.append(f"<td>{_esc(value)}<br><small>[{_esc(interval)}</small></td>")
            else:
                lines.append(f"<td>{_esc(cell.text(digits))}</td>")
        lines.append("</tr>")
    notes = [table.note] if table.note else []
    notes += [f"{number}: {reason}" for reason, number in reasons.items()]
    return "".join([*lines, "</table></div>", f"<p><small>{'<br>'.join(map(_esc, notes))}</small></p>"])


def _facts(facts: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{_esc(k)}</td><td>{_esc(v)}</td></tr>" for k, v in facts.items())
    return f'<table class="facts">{rows}</table>'


def _figure(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _opening(title: str, columns: Iterable[str], kind: str) -> list[str]:
    headings = "".join(f"<th>{_esc(name)}</th>" for name in columns)
    return [f'<h2>{_esc(title)}</h2><div class="wide"><table class="{kind}"><tr><th></th>{headings}</tr>']


def _esc(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        value = f"{value:.4g}"
    return html.escape(str(value))
