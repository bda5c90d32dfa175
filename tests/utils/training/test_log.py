"""What a run writes beside its weights: the picture of its curves."""

from __future__ import annotations

import sys

import pytest

from utils import plots
from utils.training import log
from utils.training.log import RunLog
from utils.training.task import Validation

pytest.importorskip("matplotlib")
ROWS = [
    {"step": 1, "hours": 0.1, "group": "train", "loss": 2.0, "learning_rate": 0.1, "a$b": 1.0},
    {"step": 2, "hours": 0.2, "group": "validation", "score": 0.5, "loss": 3.0},
    {"step": 3, "hours": 0.3, "group": "train", "loss": float("nan"), "learning_rate": 0.05, "a$b": 2.0},
    {"step": 4, "hours": 0.4, "group": "validation", "score": 0.7, "loss": 2.5},
]


def test_every_number_has_a_panel_with_all_that_measured_it():
    figure = plots.plot_curves(ROWS, "run")
    panels = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    assert list(panels)[:2] == ["score", "loss"] and list(panels)[-1] == "learning rate" and r"a\$b" in panels
    lines = {line.get_label(): line for line in panels["loss"].get_lines()}
    assert list(lines["train"].get_xdata()) == [1, 3] and list(lines["validation"].get_ydata()) == [3.0, 2.5]
    dotted = [line for line in panels["loss"].get_lines() if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [2]  # the best score


@pytest.mark.parametrize("rows", [[], [{"step": 1, "group": "validation", "score": float("nan")}]])
def test_little_to_draw_is_drawn(rows, tmp_path):
    assert plots.save(plots.plot_curves(rows), tmp_path / "c.png").stat().st_size > 0


def write(run: RunLog, step: int) -> None:
    run.write("train", step, 60.0 * step, {"loss": 1 / step})
    run.write("validation", step, 60.0 * step, {"score": 1 / step})
    run.show(Validation(1 / step), step)


@pytest.mark.pictures
def test_curves_are_drawn_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    drawn = []
    real = plots.plot_curves
    monkeypatch.setattr(plots, "plot_curves", lambda rows, title: drawn.append((len(rows), title)) or real(rows, title))
    run = RunLog(tmp_path / "ann")
    run.out.mkdir()
    write(run, 1)
    assert drawn == []  # the run has just begun
    monkeypatch.setattr(log, "CURVES_SECONDS", 0.0)
    write(run, 2)
    assert drawn == [(4, "ann: step 2")] and (run.out / "curves.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(log, "CURVES_SECONDS", 60.0)
    write(run, 3)
    run.close()
    run.close()
    assert drawn[1:] == [(6, "ann: step 3")] and sorted(p.name for p in run.out.iterdir()) == [
        "curves.png",
        "log.jsonl",
    ]


@pytest.mark.pictures
def test_without_matplotlib_there_are_numbers_only(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run = RunLog(tmp_path)
    write(run, 1)
    run.close()
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]
