"""Ablations: every file that is kept fits its preset; a table comes of tiny trainings."""

from __future__ import annotations

import importlib
import io
import json
import re
import subprocess
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import evaluate
from evaluation.commands.ablations import RUNS, Ablation, best_validation, digest, settings_of, table_of
from tests.conftest import ROOT
from tests.support.vocoder_set import make_set
from utils.config import from_dict, load_config, read_toml
from utils.errors import CloningError

FILES = sorted((ROOT / "configs" / "ablations").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_variant_is_another_configuration_that_can_be_trained(path):
    ablation = from_dict(Ablation, read_toml(path))
    configs = [
        load_config(RUNS[ablation.stage], ablation.stage, ablation.config, settings)
        for settings in ablation.variants.values()
    ]
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i])
    assert not ablation.start_from or (ROOT / ablation.start_from).is_file()


def test_every_question_stands_in_the_list():
    page = (ROOT / "configs" / "ablations" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`(\w+).toml`\]\(\1.toml\) ", page, re.MULTILINE)
    assert sorted(listed) == [path.stem for path in FILES]


def test_the_best_validation_is_the_lowest_score(tmp_path):
    rows = [{"step": 1, "group": "validation", "score": 2.0}, {"step": 2, "group": "validation", "score": 1.0}]
    rows += [{"step": 3, "group": "train", "score": 0.0}, {"step": 4, "group": "validation", "score": 3.0}]
    rows += [{"step": 5, "group": "validation", "early_score": 0.5}]  # not eligible
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert best_validation(tmp_path) == {"step": 2, "score": 1.0}


def test_variants_that_share_a_folder_are_refused():
    with pytest.raises(CloningError, match="share a folder"):
        from_dict(
            Ablation,
            {"question": "?", "stage": "vocoder", "config": "debug", "steps": 2, "variants": {"a b": [], "A-B": []}},
        )


def test_numbers_are_kept_as_long_as_what_they_depend_on(tmp_path):
    plain = Ablation("?", "vocoder", "debug", 2, {"a": [], "b": ["loss.mel=3.0"]})
    args = SimpleNamespace(steps=None, data=tmp_path)
    a, b, second = (settings_of(plain, *which) for which in (("a", 0), ("b", 0), ("a", 1)))
    first = digest(plain, a, args)
    assert first == digest(plain, a, args) not in (digest(plain, b, args), digest(plain, second, args))
    assert first != digest(plain, a, SimpleNamespace(steps=3, data=tmp_path))
    assert len(digest(replace(plain, config="none"), a, args)) == 8  # the training says that there is none
    (tmp_path / "manifest.jsonl").write_text("{}\n", encoding="utf-8")
    assert digest(plain, a, args) != first


def test_a_table_of_several_seeds_has_means_and_ranges():
    ablation = Ablation("How?", "vocoder", "debug", 2, {"a": [], "b": ["loss.mel=3.0"]})
    rows = {"a": [{"score": 1.0, "step": 2}, {"score": 3.0, "step": 2}], "b": [{"score": 2.0, "step": 1, "eer": 0.1}]}
    table = table_of(ablation, rows, "t", 2, seeds=2)
    assert "Means over 2 seeds" in table.note and "seeds" not in table_of(ablation, rows, "t", 2).note
    _, _, first, second = table.markdown().splitlines()
    assert first == "| a | debug.toml | 2.0000 [1.0000, 3.0000] | 2 [2, 2] | - |"
    assert second == "| b | loss.mel=3.0 | 2.0000 | 1 | 0.1000 |"


@pytest.mark.parametrize("name", evaluate.SUBCOMMANDS)
def test_every_subcommand_reads_the_choices_that_it_offers(name):
    """`facts_of` reads corpus and limit too, which are no facts of `speed`."""
    source = (ROOT / "evaluation" / "commands" / f"{name}.py").read_text(encoding="utf-8")
    read = [choice for choice in evaluate.CHOICES if f"args.{choice}" in source]
    assert read == [choice for choice in evaluate.CHOICES if choice not in evaluate.LACKING.get(name, ())]


def test_flags_without_a_use_and_files_that_are_not_there_are_one_line(tmp_path, capsys):
    words = ["ablations", str(tmp_path / "none.toml"), "--data", str(tmp_path)]
    assert evaluate.main(words) == 2 and "no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([*words, "--corpus", str(tmp_path)])
    assert "--corpus" in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_comes_of_tiny_trainings(tmp_path, capsys, monkeypatch):
    run = subprocess.run

    def in_this_process(words: list[str], **how: Any) -> subprocess.CompletedProcess:
        """All but the first variant: it has loaded torch already."""
        if words[words.index("--out") + 1].rpartition("/")[2].startswith("16-"):
            return run(words, **how)
        told = io.StringIO()
        with redirect_stderr(told):
            code = importlib.import_module(Path(words[1]).stem).main(words[2:])
        return subprocess.CompletedProcess(words, code, stderr=told.getvalue())

    monkeypatch.setattr("evaluation.commands.ablations.subprocess", SimpleNamespace(run=in_this_process))
    make_set(tmp_path / "set")
    file = tmp_path / "width.toml"
    file.write_text(
        'question = "How wide?"\nstage = "vocoder"\n'
        'config = "debug"\nsteps = 4\n[variants]\n"16" = []\n"24" = ["model.vocos.dim=24"]\n'
        '"none" = ["model.vocos.dim=none"]\n',
        encoding="utf-8",
    )
    words = [
        "ablations",
        str(file),
        "--data",
        str(tmp_path / "set"),
        "--report",
        str(tmp_path / "out"),
        "--threads",
        "1",
    ]
    assert evaluate.main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "vocoder_train.py" in shown and "--set model.vocos.dim=24" in shown
    assert not (tmp_path / "out").exists()
    assert evaluate.main([*words, "--dry-run", "--steps", "3"]) == 0  # a folder for each: old numbers are not taken
    folders = re.findall(r"width/24-[0-9a-f]{8}\b", shown + capsys.readouterr().out)
    assert len(set(folders)) == 2
    assert evaluate.main(words) == 2  # one of three failed
    question, _, heading, _, *lines = (tmp_path / "out" / "width.md").read_text(encoding="utf-8").splitlines()
    assert question.startswith("How wide? ")
    assert [line.split(" | ")[:2] for line in lines] == [["| 16", "debug.toml"], ["| 24", "model.vocos.dim=24"]]
    shown = capsys.readouterr().out
    assert evaluate.main([*words, "--dry-run", "--seeds", "2"]) == 0
    again = capsys.readouterr().out
    assert "24, seed 1: " in again and re.findall(r"width/16-\w{8}\b", shown)[0] in again  # seed 0 is trained
    assert "score" in heading and "missing: none: " in shown and "dim" in shown.partition("missing: none: ")[2]


def test_a_dry_run_writes_nothing_and_its_commands_hold_in_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    variants = '[variants]\n"a" = []\n"b" = ["loss.mel=3.0"]\n'
    head = 'question = "?"\nstage = "vocoder"\nconfig = "debug"\nsteps = 4\n'
    (tmp_path / "mine.toml").write_text(head + variants, encoding="utf-8")
    assert evaluate.main(["ablations", "mine.toml", "--data", "set", "--report", "out", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert f"{tmp_path / 'set'} --out {tmp_path / 'out' / 'ablations' / 'mine'}" in told
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_where_no_variant_could_be_trained_the_older_table_stays(tmp_path, monkeypatch, capsys):
    def train(words: list[str]) -> None:
        raise CloningError("no such data")

    monkeypatch.setattr("evaluation.commands.ablations.train", train)
    table = tmp_path / f"{FILES[0].stem}.md"
    table.write_text("numbers", encoding="utf-8")
    assert evaluate.main(["ablations", str(FILES[0]), "--data", str(tmp_path), "--report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "no variant was trained" in error and "no such data" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [table.name] and table.read_text("utf-8") == "numbers"


def test_each_file_has_a_report_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("evaluation.commands.ablations.train", lambda words: None)
    monkeypatch.setattr("evaluation.commands.ablations.best_validation", lambda folder: {"step": 1.0, "score": 2.0})
    for path in FILES[:2]:
        assert evaluate.main(["ablations", str(path), "--data", str(tmp_path), "--report", str(tmp_path / "out")]) == 0
    assert "Which settings train best?" in (tmp_path / "out" / f"ablations_{FILES[0].stem}.html").read_text("utf-8")
    assert len(list((tmp_path / "out").glob("ablations_*.json"))) == 2


@pytest.mark.parametrize(
    ("stage", "preset", "setting", "default"),
    [
        ("vocoder", "debug_wavernn_guided", "data.guide", "vocoder"),
        ("synthesizer", "parallel_sharpened", "loss.speaker_encoder", "encoder"),
        ("synthesizer", "parallel_sharpened", "loss.speaker_vocoder", "vocoder"),
        ("synthesizer", "small", "flow_from", None),
    ],
)
def test_other_weights_that_a_variant_reads_are_other_numbers(stage, preset, setting, default, tmp_path, monkeypatch):
    folder, args = tmp_path / "default", SimpleNamespace(steps=None, data=tmp_path)
    monkeypatch.setattr("evaluation.commands.ablations.DEFAULT_MODELS", folder)
    folder.mkdir()
    named = tmp_path / "named.safetensors"
    for path in (folder / "encoder.safetensors", folder / "vocoder.safetensors", named):
        path.write_bytes(b"1")
    ablation = Ablation("?", stage, preset, 2, {"a": [], "b": []})
    cases = [([f'{setting}="{named.as_posix()}"'], named)]
    cases += [([], folder / f"{default}.safetensors")] if default else []
    for settings, read in cases:
        before = digest(ablation, settings, args)
        read.write_bytes(b"2")
        assert digest(ablation, settings, args) != before
