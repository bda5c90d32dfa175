"""Laws of settings: what is written is read back, what is unknown or of the wrong type is refused by name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Literal

import pytest

from utils import config
from utils.config import SettingsParser, from_dict, load_config, override, read_toml, to_dict
from utils.errors import CloningError
from utils.weights import find


@dataclass(frozen=True)
class Inner:
    rate_hz: int = 16000
    scale: Literal["linear", "db"] = "db"

    def __post_init__(self) -> None:
        if self.rate_hz <= 0:
            raise ValueError(f"rate_hz must be positive, got {self.rate_hz}")


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    dropout: float = 0.1
    layers: int = 2
    fast: bool = False
    limit: float | None = None
    strides: tuple[int, ...] = (1, 2)
    betas: tuple[float, float] = (0.9, 0.999)
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = None


CHANGED = Outer("y", 0.5, 7, True, 3.0, (4, 5, 6), (0.5, 0.6), Inner(22050, "linear"), Inner(8000))


@pytest.mark.parametrize("value", [Outer(), CHANGED])
def test_round_trip(value):
    assert from_dict(Outer, to_dict(value)) == value


def test_round_trip_through_toml(tmp_path):
    path = tmp_path / "preset.toml"
    path.write_text('dropout = 1\nbetas = [0.5, 1]\n[inner]\nscale = "linear"\n', encoding="utf-8")
    loaded = load_config(Outer, "any", path)
    assert loaded == Outer(dropout=1.0, betas=(0.5, 1.0), inner=Inner(scale="linear"))
    assert isinstance(loaded.dropout, float) and isinstance(loaded.betas[1], float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"dropot": 0.9}, r"unknown settings \['dropot'\]; there are \['betas', 'dropout'"),
        ({"inner": {"rate": 1}}, r"unknown settings \['rate'\] of inner; there are"),
        ({"layers": "2"}, r"^layers must be int, got '2'"),
        ({"layers": 2.0}, r"^layers must be int"),
        ({"layers": True}, r"^layers must be int, got True"),
        ({"dropout": "a lot"}, r"^dropout must be float"),
        ({"dropout": True}, r"^dropout must be float"),
        ({"fast": 1}, r"^fast must be bool"),
        ({"layers": None}, r"^layers must be int, got None"),
        ({"strides": 3}, r"^strides must be a list"),
        ({"strides": [1, "2"]}, r"^strides must be int"),
        ({"betas": [0.1]}, r"^betas must have 2 values"),
        ({"inner": 3}, r"^inner is a group of settings, not 3"),
        ({"inner": {"scale": "log"}}, r"^inner\.scale is 'log'; it must be one of \['linear', 'db'\]"),
        ({"inner": {"rate_hz": -1}}, r"^inner: rate_hz must be positive, got -1"),
        ({"other": {"rate_hz": -1}}, r"^other: rate_hz must be positive"),
    ],
)
def test_refused_by_name(data, message):
    with pytest.raises(CloningError, match=message) as caught:
        from_dict(Outer, data)
    assert "\n" not in str(caught.value)


def test_override_changes_only_what_it_names():
    assert override(CHANGED, layers=9, other=None) == Outer(
        "y", 0.5, 9, True, 3.0, (4, 5, 6), (0.5, 0.6), Inner(22050, "linear"), None
    )
    with pytest.raises(CloningError, match=r"unknown settings \['layer'\]"):
        override(CHANGED, layer=9)


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["layers=3"], Outer(layers=3)),
        (["inner.rate_hz = 8000", "inner.scale=linear"], Outer(inner=Inner(8000, "linear"))),
        (["name=bare word", "fast=true", "strides=[7, 8]"], Outer(name="bare word", fast=True, strides=(7, 8))),
        (['name="a=b"', "other.rate_hz=1"], Outer(name="a=b", other=Inner(1))),
        (["limit=2"], Outer(limit=2.0)),
    ],
)
def test_assignments(assignments, expected):
    assert load_config(Outer, "any", None, assignments) == expected


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("layers", "'layers' is not name=value"),
        ("=3", "is not name=value"),
        ("layers.deep=3", "layers is a value, not a group|group of settings|must be int"),
        ("inner.speed=3", r"unknown settings \['speed'\]"),
    ],
)
def test_refused_assignments(assignment, message):
    with pytest.raises(CloningError, match=message):
        load_config(Outer, "any", None, [assignment])


def test_assignments_win_over_the_preset(tmp_path, monkeypatch):
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "small.toml").write_text("layers = 5\nname = 'preset'\n", encoding="utf-8")
    monkeypatch.setattr(config, "CONFIGS", tmp_path)
    assert load_config(Outer, "stage", "small", ["layers=6"]) == Outer(name="preset", layers=6)
    with pytest.raises(CloningError, match=r"no preset 'big': give a \.toml file or one of \['small'\]"):
        load_config(Outer, "stage", "big")


@pytest.mark.parametrize("content", [b"layers = \n", b"layers = 1\nlayers = 2\n", b"name = '\xff'\n"])
def test_damaged_preset(tmp_path, content):
    path = tmp_path / "preset.toml"
    path.write_bytes(content)
    with pytest.raises(CloningError, match=r"preset\.toml: not TOML") as caught:
        read_toml(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "settings", "data"),
    [
        ("DATA --set a.b=1 c=x --out RUN --set d=2", ["a.b=1", "c=x", "d=2"], ["DATA"]),
        ("--set a=1 b=2 DATA", ["a=1", "b=2"], ["DATA"]),
        ("--set=a=1 b=[3,4] DATA c=3", ["a=1", "b=[3,4]"], ["DATA", "c=3"]),
        ("DATA --out b=2", [], ["DATA"]),
        ("DATA --set nothing b=2", ["nothing", "b=2"], ["DATA"]),
    ],
)
def test_one_flag_takes_several_settings_and_nothing_else(line, settings, data):
    parser = SettingsParser()
    parser.add_argument("data", nargs="+")
    parser.add_argument("--out")
    parser.add_settings("change settings")
    found = parser.parse_args(line.split())
    assert (found.settings, found.data) == (settings, data)


@pytest.mark.parametrize("script", ["encoder_train", "synthesizer_train", "vocoder_train", "train_all"])
def test_every_training_script_takes_several_settings(script):
    parser = importlib.import_module(script).build_parser()
    assert parser.parse_args(["--set", "a=1", "b=2", "DATA", "--out", "RUN"]).settings == ["a=1", "b=2"]


def test_an_installation_without_its_checkout_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(find, "DEFAULT_MODELS", tmp_path / "saved_models")
    assert config.list_presets("encoder").strip() == f"no presets: {tmp_path / 'configs'} is not there"
    with pytest.raises(CloningError, match="configs: no such folder: the toolkit runs from a checkout: pip install -e"):
        load_config(Outer, "encoder", "debug")
    with pytest.raises(CloningError, match="saved_models: no such folder: the toolkit runs from a checkout"):
        find.find_chosen(find.DEFAULT_MODELS, "encoder", None)
