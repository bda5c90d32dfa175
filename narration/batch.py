"""Tables of texts, CSV with a header or JSON lines: one file a row."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from narration.script import LONG
from utils.audio import io as audio
from utils.errors import CloningError
from utils.files import read_text

COLUMNS = ("text", "name", "voice", "reference", "emotion", "seed", "rate", "pause")
_NAME = re.compile(r"[^\W.][\w. -]{0,150}")


@dataclass(frozen=True)
class Row:
    """One text. `name`: of its file; `voice` "" is the narrator's; `reference`: a clip; `how`: arguments of `clone`."""

    number: int
    name: str
    text: str
    voice: str = ""
    reference: str = ""
    how: dict[str, Any] = field(default_factory=dict)


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """Rows of a table, and a line for each that makes no sense. Raises CloningError for a file that is no table."""
    text = read_text(path, str(path))
    records = _json(text) if path.suffix.lower() in (".jsonl", ".json", ".ndjson") else _csv(text, path)
    rows: list[Row] = []
    bad: list[str] = []
    names: dict[str, int] = {}
    for number, record in records:
        try:
            row = _row(number, record)
            if (first := names.setdefault(row.name.lower(), number)) != number:
                raise CloningError(f"its name {row.name} is that of row {first}")
            rows.append(row)
        except CloningError as error:
            bad.append(f"row {number}: {error}")
    if not rows and not bad:
        raise CloningError(f"{path}: no rows in it; a table has a header (text,name,voice) and a row for each text")
    return rows, bad


def speak_rows(
    rows: list[Row], folder: Path, speak: Callable[[Row, Path], str], tell: Callable[[str], None]
) -> list[str]:
    """`speak` each row to its file in the folder, unless that is there; a line comes back for each that failed."""
    failed: list[str] = []
    for done, row in enumerate(rows, 1):
        path = folder / row.name
        if path.exists():
            tell(f"{done}/{len(rows)} {path}: kept")
            continue
        try:
            tell(f"{done}/{len(rows)} {path}: {speak(row, path)}")
        except CloningError as error:
            failed.append(f"row {row.number}: {error}")
    return failed


def _csv(text: str, path: Path) -> list[tuple[int, Any]]:
    """Records with the numbers of their rows, the header being row 1."""
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        found = [(number, record) for number, record in enumerate(reader, 2)]
    except csv.Error as error:
        raise CloningError(f"{path}: not CSV: {error}") from error
    if "text" not in (reader.fieldnames or ()):
        raise CloningError(f"{path}: its header has no column text; columns are {', '.join(COLUMNS)}")
    return found


def _json(text: str) -> list[tuple[int, Any]]:
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _row(number: int, record: Any) -> Row:
    if isinstance(record, str):
        try:
            record = json.loads(record)
        except (ValueError, RecursionError) as error:
            raise CloningError(f"not JSON: {error}") from error
        if not isinstance(record, dict):
            raise CloningError('not a JSON object, such as {"text": "Hello."}')
    if None in record:
        raise CloningError("it has more cells than the header")
    if unknown := sorted(name for name in record if name not in COLUMNS):
        raise CloningError(f"unknown columns {', '.join(unknown)}; columns are {', '.join(COLUMNS)}")
    record = {name: str(value).strip() for name, value in record.items() if value not in (None, "")}
    text = record.get("text", "")
    if not text or len(text) > LONG:
        raise CloningError(f"its text has {len(text)} characters; 1 to {LONG} are wanted")
    how: dict[str, Any] = {"emotion": record["emotion"]} if "emotion" in record else {}
    for name, kind in {"seed": int, "rate": float, "pause": float}.items():
        try:
            how |= {name: kind(record[name])} if name in record else {}
        except ValueError as error:
            raise CloningError(f"its {name} is {record[name]!r}, no number") from error
    if "voice" in record and "reference" in record:
        raise CloningError("it has a voice and a reference: give one of them")
    name = record.get("name", f"{number:04d}")
    name = name if Path(name).suffix else f"{name}.wav"
    if not _NAME.fullmatch(name):
        raise CloningError(f"its name is {name!r}: letters, digits, spaces, - _ and . and no folder")
    audio.require_format(name)
    return Row(number, name, text, record.get("voice", ""), record.get("reference", ""), how)
