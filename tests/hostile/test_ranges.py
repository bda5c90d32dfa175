"""Every number that a preset or a checkpoint may set has a lowest and a highest value."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from encoder.config import RunConfig as EncoderRun
from synthesizer.config import RunConfig
from utils.config import from_dict
from utils.errors import CloningError
from vocoder.config import RunConfig as VocoderRun


def numbers(cls: type, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], bool]]:
    """The place of every number in nested settings, and whether it is in a list."""
    found = []
    for name, hint in typing.get_type_hints(cls).items():
        parts = typing.get_args(hint) or (hint,)
        if dataclasses.is_dataclass(hint):
            found += numbers(hint, (*path, name))
        elif int in parts or float in parts:
            found.append(((*path, name), typing.get_origin(hint) is tuple))
    return found


FIELDS = [(cls, *place) for cls in (EncoderRun, RunConfig, VocoderRun) for place in numbers(cls)]


@pytest.mark.parametrize(("cls", "place", "listed"), FIELDS, ids=lambda value: getattr(value, "__name__", None))
def test_every_number_has_a_range(cls, place, listed):
    for value in (-(10**13), 10**20, 1e300, float("nan"), float("inf"), 10**400):
        data: typing.Any = [value, value] if listed else value
        for name in reversed(place):
            data = {name: data}
        with pytest.raises(CloningError) as caught:
            from_dict(cls, data)
        assert place[-1] in str(caught.value) and len(str(caught.value)) < 1100


def test_the_fields_are_found():
    places = {".".join(place) for _, place, _ in FIELDS}
    assert {"model.transformer.blocks", "model.mel.n_fft", "model.source_filter.blocks", "model.flow.steps"} <= places
    assert len(FIELDS) > 200


@pytest.mark.parametrize("data", [None, 3, [], "x", [[]]])
def test_settings_that_are_no_group(data):
    with pytest.raises(CloningError, match="is a group of settings"):
        from_dict(RunConfig, data)
    with pytest.raises(CloningError, match="is a group of settings"):
        from_dict(RunConfig, {"model": data})
