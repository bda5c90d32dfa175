"""What `evaluate.py chain` found, as tables, plots and players."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from evaluation.lists.sentences import QUESTION, STATEMENT, Item, SentencePlan
from evaluation.measure import WORDS, Numbers, word_cells
from evaluation.metrics.prosody import END_S, PAUSE_S, RISE_SEMITONES
from evaluation.metrics.scores import bootstrap
from evaluation.report import Cell, Players, Report, Table
from utils.audio.io import Waveform, read

WAY_NOTE = (
    "Way to the voice: 0% is what real speech of other speakers gets beside this voice, 100% what other recordings of "
    "the same speaker get; the mean over sentences, by each judge of likeness."
)
KINDS = ("read", "sentence", "numbers", "names", "word", "paragraph")
# heading -> (digits, name of the number in a row, factor)
COLUMNS: dict[str, tuple[int, str, float]] = {
    "DistillMOS": (2, "distillmos", 1),
    "DNSMOS": (2, "dnsmos", 1),
    "similarity": (3, "similarity", 1),
    "to others": (3, "other_speakers", 1),
    "right voice %": (1, "recognized_voice", 100),
    "similarity, 2nd judge": (3, "similarity_2", 1),
    "to others, 2nd judge": (3, "other_speakers_2", 1),
    "right voice %, 2nd judge": (1, "recognized_voice_2", 100),
    "mel dB, aligned": (2, "aligned_db", 1),
}
PROSODY: dict[str, tuple[int, str, float]] = {
    "F0 off, semitones": (2, "f0_off", 1),
    "F0 spread - own, semitones": (2, "f0_spread_off", 1),
    "pace / own": (2, "pace", 1),
    "pace off %, same sentence": (1, "pace_off", 1),
    "pause at a comma s": (2, "comma_pause", 1),
    "commas with a pause %": (0, "commas_paused", 100),
    "longest pause s": (2, "pause_s", 1),
    "RTF": (3, "rtf", 1),
    "CPU s / s": (3, "cpu", 1),
}
WAYS = {"way to the voice %": "way", "by the 2nd judge %": "way_2"}
# why a cell is empty, where no judge is missing
NO_OTHERS, NO_OWN, NO_WORDS = (
    "needs a second speaker",
    "needs recordings of the speaker",
    "needs a recording of the same words",
)
EMPTY = {
    **dict.fromkeys(("to others", "to others, 2nd judge", "right voice %", "right voice %, 2nd judge"), NO_OTHERS),
    **dict.fromkeys(("mel dB, aligned", "pace off %, same sentence"), NO_WORDS),
    **dict.fromkeys(("F0 off, semitones", "F0 spread - own, semitones", "pace / own"), NO_OWN),
    **dict.fromkeys(("pause at a comma s", "commas with a pause %"), "needs commas and Whisper"),
    **dict.fromkeys(("RTF", "CPU s / s"), "nothing was made"),
}
ALIGNMENT = {
    "coverage %": 1,
    "skips": 2,
    "repeats": 2,
    "early stop %": 1,
    "overrun frames": 2,
    "stopped at its bound %": 1,
}
DIGITS = {
    "n": 0,
    **dict.fromkeys(WAYS, 0),
    **{name: digits for name, (digits, _, _) in {**WORDS, **COLUMNS}.items()},
}
PROSODY_DIGITS = {"n": 0, **{name: digits for name, (digits, _, _) in PROSODY.items()}}


@dataclass
class System:
    """A row of the table: how it makes a sentence, and what came of it."""

    name: str
    make: Callable[[Item], tuple[Waveform, Numbers]]
    rows: dict[str, Numbers] = field(default_factory=dict)  # by item
    audio: dict[str, Waveform] = field(default_factory=dict)
    is_chain: bool = False


def add_tables(report: Report, systems: list[System], plan: SentencePlan) -> None:
    """Tables, then plots, then players."""
    _tables(report, systems, plan)
    report.parts += _figures(systems, plan.items)
    report.parts.append(_players(systems, plan.items))


def _tables(report: Report, systems: list[System], plan: SentencePlan) -> None:
    """By group of voices, then of all together by kind of sentence and by speaker."""
    note = " ".join([WAY_NOTE, report.facts.get("likeness", "")])
    tables = []
    group_of = {item.id: plan.groups.get(item.speaker, "") for item in plan.items if item.kind == "read"}
    for group in dict.fromkeys(group_of.values()):
        of_group = {s.name: [row for name, row in s.rows.items() if group_of.get(name) == group] for s in systems}
        title = f"The same sentences, really read{group and f': {group}'}"
        tables += _pair(title, {name: own for name, own in of_group.items() if own}, note)
    tables.append(_rises(systems))
    kinds: dict[str, list[Numbers]] = {}
    voices: dict[str, list[Numbers]] = {}
    alignment = Table(
        "Alignment, mean of a sentence", ALIGNMENT, note="From the attention or the durations of the chain."
    )
    for system in systems:
        rows = list(system.rows.values())
        for kind in KINDS if system.is_chain else ():
            if chosen := [row for row in rows if row["kind"] == kind]:
                kinds[f"{system.name}, {kind}"] = chosen
                alignment.add(f"{system.name}, {kind}", _alignment(chosen))
        for speaker in sorted({row["speaker"] for row in rows}) if system is systems[0] or system.is_chain else ():
            if chosen := [row for row in rows if row["speaker"] == speaker and row["kind"] == "read"]:
                voices[f"{system.name}, {speaker}"] = chosen
    tables += [*_pair("The chain, by kind of sentence", kinds), alignment, *_pair("By speaker: read sentences", voices)]
    report.parts += [table for table in tables if table.rows]


def _pair(title: str, rows: dict[str, list[Numbers]], note: str = "") -> list[Table]:
    """What is said and by whom; and how: two tables of the same rows."""
    tables = [Table(title, DIGITS, note=note), Table(f"{title}: pitch, pace, pauses and time", PROSODY_DIGITS)]
    for name, own in rows.items():
        found = cells(own)
        for table in tables:
            table.add(name, {heading: found[heading] for heading in table.columns})
    return tables


def _rises(systems: list[System]) -> Table:
    """How often a yes/no question rises at its end, and how often its statement does."""
    headings = {QUESTION: "questions that rise %", STATEMENT: "statements that rise %"}
    table = Table(
        "Yes/no questions beside statements of nearly the same words",
        {"pairs": 0, **dict.fromkeys(headings.values(), 0), "rise of a question, semitones": 1},
        note=f"A rise: {RISE_SEMITONES:g} semitones or more within the last {END_S:g} s of voice, up to its end.",
    )
    for system in systems:
        rises = {kind: [row["rise"] for row in system.rows.values() if row["kind"] == kind] for kind in headings}
        if not rises[QUESTION]:
            continue
        row = {"pairs": Cell(float(len(rises[QUESTION])))}
        for kind, heading in headings.items():
            risen = [100.0 * (rise is not None and rise >= RISE_SEMITONES) for rise in rises[kind]]
            row[heading] = Cell.of(bootstrap(risen))
        table.add(system.name, row | {"rise of a question, semitones": Cell.of(bootstrap(rises[QUESTION]))})
    return table


def cells(rows: list[Numbers]) -> dict[str, Cell]:
    """The table's cells of some sentences: means with intervals; error rates pooled over all their words."""
    result = {"n": Cell(float(len(rows)))}
    for heading, name in WAYS.items():
        values = [100 * row[name] for row in rows if name in row]
        result[heading] = Cell.of(bootstrap(values) if values else None, "needs its judge and real speech of others")
    result |= word_cells(rows)
    pauses = [pause for row in rows for pause in row.get("comma_pauses", ())]
    commas = [{"comma_pause": pause, "commas_paused": float(pause >= PAUSE_S)} for pause in pauses]
    for heading, (_, name, factor) in {**COLUMNS, **PROSODY}.items():
        values = [factor * row[name] for row in [*rows, *commas] if row.get(name) is not None]
        result[heading] = Cell.of(bootstrap(values) if values else None, EMPTY.get(heading, "its judge is missing"))
    return result


def _alignment(rows: list[Numbers]) -> dict[str, Cell]:
    names = ("coverage", "skips", "repeats", "early_stop", "overrun", "bounded")
    factors = (100, 1, 1, 100, 1, 100)
    return {
        heading: Cell.of(bootstrap([factor * float(row[name]) for row in rows]))
        for heading, name, factor in zip(ALIGNMENT, names, factors, strict=True)
    }


def _figures(systems: list[System], items: list[Item]) -> list[Any]:
    from matplotlib.figure import Figure

    read_ids = [item.id for item in items if item.kind == "read"]
    figures = []
    for name in ("similarity", "distillmos"):
        values = {}
        for system in systems:
            numbers = [system.rows[i][name] for i in read_ids if system.rows.get(i, {}).get(name) is not None]
            if numbers:
                values[system.name] = numbers
        if not values:
            continue
        figure = Figure(figsize=(7, 0.5 + 0.4 * len(values)), layout="constrained")
        axis = figure.subplots()
        axis.boxplot(list(values.values()), orientation="horizontal", widths=0.6)
        axis.set_yticks(range(1, len(values) + 1), list(values))
        axis.invert_yaxis()
        axis.set_xlabel(name)
        figures.append((f"Read sentences: {name}", figure))
    return figures


def _players(systems: list[System], items: list[Item]) -> Players:
    players = Players("Listen", ["reference", *(system.name for system in systems)])
    for item in items:
        sounds = {system.name: system.audio[item.id] for system in systems if item.id in system.audio}
        if sounds:
            players.rows.append((f"{item.speaker}: {item.text}", {"reference": read(item.reference), **sounds}))
    return players
