"""Presets: every shipped network can be trained again by naming one."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from evaluation.commands.ablations import RUNS
from utils.config import CONFIGS, from_dict, load_config, presets, read_toml, to_dict
from utils.training.log import flat

MODELS = Path(__file__).resolve().parents[2] / "saved_models"
SHIPPED = {
    "default/encoder": "small",
    "default/synthesizer": "parallel_sharpened",
    "default/vocoder": "source_filter_gpu",
    "default/tacotron": "small",
    "default/wavernn": "wavernn_small",
    "default/hifigan": "hifigan_source",
    "emotional/parallel": "parallel_emotional",
    "emotional/transformer": "transformer_small",
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
    """But for the architecture, and mels, whose fields without a value are those of `MelConfig`."""
    usual = flat(to_dict(RUNS[stage]()))
    kept = ("model.architecture", "model.mel.")
    for path in (CONFIGS / stage).glob("*.toml"):
        set_here = flat(read_toml(path)).items()
        assert [name for name, value in set_here if usual[name] == value and not name.startswith(kept)] == [], path


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
