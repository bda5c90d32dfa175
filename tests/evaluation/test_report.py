"""An interrupted run continues; an empty cell has its reason; the page needs no other file."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import evaluate
from evaluation import headings
from evaluation.cache import Cache
from evaluation.metrics.scores import Interval
from evaluation.report import Cell, Players, Report, Table
from utils.audio.io import Waveform

pytestmark = pytest.mark.slow


def test_a_cut_off_line_costs_only_itself(tmp_path):
    cache = Cache(tmp_path / "x.jsonl")
    assert cache.put("a", {"value": np.float32(1.5), "nothing": float("nan")}) == {"value": 1.5, "nothing": None}
    cache.put_array("b", np.array([[0.5, -2.0]]))
    with cache.path.open("a", encoding="utf-8") as file:
        file.write('["c", {"val')  # killed here
    again = Cache(cache.path)
    assert again.get("a")["value"] == 1.5 and again.get("c") is None
    assert again.get_array("b").tolist() == [[0.5, -2.0]]
    again.put("d", 4)
    assert Cache(cache.path).get("d") == 4


def test_cells_show_interval_word_or_dash():
    assert Cell.of(Interval(1.234, 1.0, 1.5)).text(2) == "1.23 [1.00, 1.50]"
    assert Cell.of(Interval(2.0, float("nan"), float("nan"))).text(1) == "2.0"
    empty = Cell.of(Interval(float("nan"), float("nan"), float("nan")), "no judge")
    assert empty.text(1) == "-" and empty.reason == "no judge"


def test_report_is_json_and_one_page_with_reasons_and_players(tmp_path):
    table = Table("Scores <1>", {"WER %": 1, "MOS": 2})
    table.add("chain", {"WER %": Cell.of(Interval(10.0, 8.0, 12.0)), "MOS": Cell(None, reason="no <judge>")})
    sound = Waveform(0.1 * np.sin(np.arange(8000) / 10).astype(np.float32), 16_000)
    players = Players("Listen", ["real", "chain"], [("Hello.", {"real": sound})])
    report = Report("chain", {"date": "today"}, missing=[("DNSMOS", "not installed")], parts=[table, players])
    data, page = report.write(tmp_path)
    content = json.loads(data.read_text(encoding="utf-8"))
    assert content["tables"][0]["rows"]["chain"]["WER %"]["low"] == 8.0
    assert content["missing"] == [{"name": "DNSMOS", "reason": "not installed"}]
    text = page.read_text(encoding="utf-8")
    assert "Scores &lt;1&gt;" in text and "no &lt;judge&gt;" in text and "not installed" in text
    assert text.count("<audio") == 1 and "data:audio/ogg;base64," in text and "http" not in text


def test_a_page_says_in_words_which_way_is_better_and_which_is_best(tmp_path):
    table = Table("Scores", {"WER %": 1, "DistillMOS": 2, "n": 0})
    for name, wer, mos in (("real", 1.0, 4.5), ("old", 12.0, 3.9), ("new", 8.04, 3.7), ("same", 8.01, 3.7)):
        table.add(name, {"WER %": Cell(wer), "DistillMOS": Cell(mos), "n": Cell(wer)})
    text = Report("chain", {"date": "today"}, parts=[table]).as_html()
    assert "<h1>How good is cloned speech?</h1>" in text and 'name="viewport"' in text
    assert "WER % \N{DOWNWARDS ARROW}" in text and "DistillMOS \N{UPWARDS ARROW}" in text and "<th>n</th>" in text
    assert re.findall("<b>(.*?)</b>", text) == ["3.90", "8.0", "8.0"]  # equal as shown: both; a recording is no system
    assert "words that a speech recognizer gets wrong" in text


def test_every_subcommand_has_a_title():
    assert set(evaluate.SUBCOMMANDS) == set(headings.TITLES)


@pytest.mark.parametrize("command", evaluate.SUBCOMMANDS)
def test_a_report_that_can_be_no_folder_is_refused_before_anything_is_measured(command, tmp_path, monkeypatch, capsys):
    def measured(args):
        raise AssertionError("it has begun")

    monkeypatch.setattr(f"evaluation.commands.{command}.run", measured)
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    more = ["abl.toml", "--data", str(tmp_path)] if command == "ablations" else []
    for place in ("file", "file/below"):
        assert evaluate.main([command, *more, "--report", str(tmp_path / place)]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and f"--report {tmp_path / place}: " in line and "is no folder" in line
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine" and len(list(tmp_path.iterdir())) == 1
