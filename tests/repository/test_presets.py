"""Presets: every shipped network can be trained again by naming one."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

from evaluation.commands.ablations import RUNS
from synthesizer.config import conditioning_only
from utils.chain.config import ChainConfig
from utils.config import CONFIGS, from_dict, load_config, presets, read_toml, to_dict
from utils.errors import CloningError
from utils.training.log import RunLog, flat
from utils.training.task import Task

MODELS = Path(__file__).resolve().parents[2] / "saved_models"
SHIPPED = {
    "default/encoder": "small",
    "default/encoder_lstm": "lstm",
    "default/synthesizer": "parallel_sharpened",
    "default/vocoder": "source_filter_gpu",
    "default/tacotron": "non_attentive",
    "default/wavernn": "wavernn_guided",
    "default/hifigan": "hifigan_guided",
    "emotional/parallel": "parallel_emotional",
    "emotional/transformer": "non_attentive_transformer",
    "emotional_22k/hifigan": "hifigan_guided_22k",
    "emotional_22k/transformer": "transformer_22k",
}


@pytest.mark.parametrize("stage", RUNS)
def test_a_train_script_lists_all_presets_and_takes_a_small_one_by_itself(stage):
    parser = importlib.import_module(f"{stage}_train").build_parser()
    about = presets(stage)
    assert all(len(what.split()) > 3 for what in about.values())
    assert all(re.search(rf"^  {name} ", parser.format_help(), re.MULTILINE) for name in about)
    chosen = parser.parse_args(["data", "--out", "run"]).config
    assert f"{stage}/{chosen}" in {"encoder/small", "synthesizer/parallel", "vocoder/source_filter"}


@pytest.mark.parametrize("stage", RUNS)
def test_presets_hold_only_what_differs_from_the_defaults(stage):
    """Or from their base. But for the architecture, and mels, whose fields without a value are those of `MelConfig`."""
    kept = ("model.architecture", "model.mel.")
    for path in (CONFIGS / stage).glob("*.toml"):
        data = read_toml(path)
        usual = flat(to_dict(load_config(RUNS[stage], stage, data.pop("base", None))))
        set_here = flat(data).items()
        assert [name for name, value in set_here if usual[name] == value and not name.startswith(kept)] == [], path


def test_some_presets_build_on_others_of_their_stage():
    bases = {path.stem: read_toml(path).get("base") for path in CONFIGS.glob("*/*.toml")}
    assert bases["hifigan_v2"] == bases["hifigan_22k"] == "hifigan_v1" and bases["hifigan_v1"] is None
    first, second = (flat(to_dict(load_config(RUNS["vocoder"], "vocoder", f"hifigan_v{n}"))) for n in (1, 2))
    assert [name for name in first if first[name] != second[name]] == ["model.hifigan.channels"]


def test_frozen_parts_are_those_of_the_conditioning(tmp_path):
    config = load_config(RUNS["synthesizer"], "synthesizer", "parallel_emotional")
    assert (
        config.training.frozen == tuple(conditioning_only(config.model.parallel)) and len(config.training.frozen) == 16
    )
    with pytest.raises(CloningError, match='conditioning_only\' is for model.architecture "parallel"'):
        load_config(RUNS["synthesizer"], "synthesizer", "small", ["training.frozen=conditioning_only"])


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ('"none"', r"mine.toml: base is 'none', and the folder has no such preset; it has \['other', 'plain'\]"),
        ("3", "base is 3"),
        ('"mine"', "base 'mine' has a base itself, 'mine'"),  # a circle
        ('"other"', "base 'other' has a base itself, 'plain'"),
    ],
)
def test_a_base_that_cannot_be_followed_is_refused(base, told, tmp_path):
    (tmp_path / "plain.toml").write_text("[training]\nsteps = 7\n", encoding="utf-8")
    (tmp_path / "other.toml").write_text('base = "plain"\n[training]\nseed = 3\n', encoding="utf-8")
    (tmp_path / "mine.toml").write_text(f"base = {base}\n", encoding="utf-8")
    found = load_config(RUNS["vocoder"], "vocoder", tmp_path / "other.toml").training
    assert (found.steps, found.seed) == (7, 3)
    with pytest.raises(CloningError, match=told):
        load_config(RUNS["vocoder"], "vocoder", tmp_path / "mine.toml")


def test_every_shipped_network_has_a_preset():
    found = {path.relative_to(MODELS).with_suffix("").as_posix() for path in MODELS.rglob("*.safetensors")}
    assert found == SHIPPED.keys()


@pytest.mark.parametrize(("weights", "preset"), SHIPPED.items())
def test_a_preset_makes_the_network_that_is_shipped(weights, preset):
    with safe_open(MODELS / f"{weights}.safetensors", "np") as file:
        header = file.metadata()
    kind = json.loads(header["kind"])
    wanted = load_config(RUNS[kind], kind, preset).model
    assert from_dict(type(wanted), json.loads(header["config"])) == wanted


def groups(cls: type) -> Iterator[tuple[tuple[str, ...], type]]:
    """The dataclasses of a configuration, each with the names that lead to it."""
    yield (), cls
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            yield from (((name, *path), inner) for path, inner in groups(hint))


def other(value: object) -> object:
    """A value of the same type, by which a setting is told from its default."""
    if isinstance(value, bool | None):
        return not value
    if isinstance(value, tuple):
        return [*value, *value] if value else ["x"]
    return value + value if value else type(value)(1)


FORMER = [
    (cls, path, old, new)
    for cls in (*RUNS.values(), ChainConfig)
    for path, group in groups(cls)
    for old, new in getattr(group, "RENAMED", {}).items()
]


@pytest.mark.parametrize(("cls", "path", "old", "new"), FORMER)
def test_an_older_name_of_a_setting_is_read(cls, path, old, new):
    def group_of(config: object) -> object:
        for name in path:
            config = getattr(config, name)
        return config

    default = getattr(group_of(cls()), new)
    wanted = "transformer" if new == "architecture" else default if new == "spectral_dropout_db" else other(default)
    data = {old: wanted}
    assert old not in {field.name for field in dataclasses.fields(group_of(cls()))}
    for name in reversed(path):
        data = {name: data}
    found = getattr(group_of(from_dict(cls, data)), new)
    assert (list(found) if isinstance(found, tuple) else found) == (
        list(wanted) if isinstance(wanted, tuple) else wanted
    )


@pytest.mark.parametrize(("stage", "preset"), [("synthesizer", "parallel_voice"), ("vocoder", "source_filter_gpu")])
def test_a_run_that_goes_on_under_newer_names_is_not_called_changed(stage, preset, tmp_path, caplog):
    class Continued(Task):
        config = load_config(RUNS[stage], stage, preset)
        batch = losses = validate = None  # of no use here

    settings = to_dict(Continued.config)
    before = json.loads(json.dumps(settings))
    for path, group in groups(RUNS[stage]):
        inner = before
        for name in path:
            inner = inner[name]
        for old, new in getattr(group, "RENAMED", {}).items():
            inner[old] = inner.pop(new)
        inner.update({name: kept[0] for name, kept in getattr(group, "REMOVED", {}).items()})
    assert before != settings
    (tmp_path / "settings.json").write_text(json.dumps(before))
    caplog.set_level("INFO")
    log = RunLog(tmp_path)
    log.open(settings, 3, Continued().renamed)
    log.open({**settings, "score": "another"}, 3, Continued().renamed)  # which is seen
    log.close()
    assert caplog.text.count("settings changed") == 1 and "-> another" in caplog.text


@pytest.mark.parametrize("path", sorted((CONFIGS / "ablations").glob("*.toml")), ids=lambda path: path.stem)
def test_each_ablation_has_a_result_of_its_variants(path):
    result = (path.parent / "results" / f"{path.stem}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \|", result, re.MULTILINE)
    assert result.startswith(read_toml(path)["question"].split("?")[0])
    assert set(rows) - {"---"} == set(read_toml(path)["variants"])
