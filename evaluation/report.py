"""What an evaluation found: JSON for machines, one self-contained HTML page for people."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation import headings
from evaluation.cache import plain
from evaluation.metrics.scores import Interval
from utils.audio.codecs import opus_bytes
from utils.audio.io import Waveform
from utils.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAYER_BUDGET = 20_000_000  # bytes of audio in one page, before base64 makes it a third more
TEMPLATE = Path(__file__).with_name("report.html")


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
        shown, low, high = plain(list(value)) if isinstance(value, Interval) else (plain(value), None, None)
        return Cell(shown, low, high, reason or "nothing to measure" if shown is None else "")

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
        """Append a row."""
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
        """The tables among the parts."""
        return [part for part in self.parts if isinstance(part, Table)]

    def write(self, folder: Path) -> tuple[Path, Path]:
        """`<folder>/<subcommand>.json` and `.html`; returns both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder / f"{self.subcommand}.json", folder / f"{self.subcommand}.html"
        for path, text in zip(paths, (json.dumps(plain(self.as_json()), indent=1), self.as_html()), strict=True):
            write_text(path, text)
        return paths

    def as_json(self) -> dict[str, Any]:
        """What the JSON file holds."""
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
        """The page, whole: audio and figures are in it."""
        from jinja2 import Environment  # escapes what it shows

        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
        facts = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in self.facts.items()}
        views, budget = [], PLAYER_BUDGET
        for part in self.parts:
            if isinstance(part, Table):
                views.append(_table(part))
            elif isinstance(part, Players):
                view, budget = _players(part, budget)
                views.append(view)
            else:
                views.append({"kind": "figure", "title": part[0], "data": _png(part[1])})
        return template.render(
            subcommand=self.subcommand,
            title=headings.title(self.subcommand),
            facts=facts,
            missing=self.missing,
            parts=views,
        )


def _table(table: Table) -> dict[str, Any]:
    """What the template shows of a table: cells (value, interval, reason's number), and each reason once as a note."""
    reasons: dict[str, int] = {}
    winners = {column: headings.best(column, _rounded(table, column)) for column in table.columns}
    rows = []
    for name, cells in table.rows:
        shown: list[dict[str, Any]] = []
        for column, digits in table.columns.items():
            cell = cells.get(column, Cell(None, reason="not measured"))
            if cell.value is None:
                shown.append({"empty": cell.reason, "number": reasons.setdefault(cell.reason, len(reasons) + 1)})
            elif isinstance(cell.value, str):
                shown.append({"value": cell.value})
            else:
                value, bracket, interval = cell.text(digits).partition(" [")
                bold = name in winners[column]
                shown.append({"value": value, "interval": f"[{interval}" if bracket else "", "best": bold})
        rows.append((name, shown))
    notes = [table.note] if table.note else []
    notes += [f"{number}: {reason}" for reason, number in reasons.items()]
    known = [(column, headings.MEASURES[column].meaning) for column in table.columns if column in headings.MEASURES]
    columns = [headings.heading(column) for column in table.columns]
    return {"kind": "numbers", "title": table.title, "columns": columns, "rows": rows, "notes": notes, "known": known}


def _rounded(table: Table, column: str) -> dict[str, float]:
    """Row -> value as it is shown, of the rows that have one."""
    cells = {name: cells.get(column, Cell(None)).value for name, cells in table.rows}
    return {
        name: round(value, table.columns[column]) for name, value in cells.items() if isinstance(value, float | int)
    }


def _players(players: Players, budget: int) -> tuple[dict[str, Any], int]:
    """What the template shows of players, as many as fit into `budget` bytes, and what is left of it."""
    rows = []
    for name, sounds in players.rows:
        shown = []
        for column in players.columns:
            content = opus_bytes(sounds[column]) if column in sounds and len(sounds[column]) else b""
            fits = len(content) <= budget
            budget -= len(content) if fits else 0
            shown.append({"data": _base64(content) if fits else "", "left_out": not fits})
        rows.append((name, shown))
    return {"kind": "players", "title": players.title, "columns": players.columns, "rows": rows}, budget


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return _base64(buffer.getvalue())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
