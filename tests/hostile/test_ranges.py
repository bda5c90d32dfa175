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
    assert {
        "model.transformer.blocks",
        "model.mel.n_fft",
        "model.source_filter.blocks",
        "model.sampling.steps",
    } <= places
    assert len(FIELDS) > 200


@pytest.mark.parametrize("data", [None, 3, [], "x", [[]]])
def test_settings_that_are_no_group(data):
    with pytest.raises(CloningError, match="is a group of settings"):
        from_dict(RunConfig, data)
    with pytest.raises(CloningError, match="is a group of settings"):
        from_dict(RunConfig, {"model": data})


PAIRS = [(EncoderRun, "data.final_seconds"), (RunConfig, "data.prompt_frames")]
PAIRS += [(EncoderRun, f"augment.{name}_db") for name in ("noise_snr", "babble_snr", "spectral_dropout", "gain")]
PAIRS += [(EncoderRun, "augment.reverb_seconds")]


@pytest.mark.parametrize(("cls", "place"), PAIRS)
def test_pairs_that_are_drawn_between_rise(cls, place):
    group, name = place.split(".")
    low, high = 11, 10
    with pytest.raises(CloningError, match=f"{name} is 11(.0)?, 10(.0)?: the first number"):
        from_dict(cls, {group: {name: [low, high]}})
    from_dict(cls, {group: {name: [high, high]}})


@pytest.mark.parametrize(
    ("architecture", "frames"), [("vocos", 2), ("hifigan", 2), ("source_filter", 2), ("wavernn", 5)]
)
def test_a_validation_has_the_frames_that_the_vocoder_needs(architecture, frames):
    def run(seconds: float) -> VocoderRun:
        return from_dict(VocoderRun, {"model": {"architecture": architecture}, "data": {"validation_seconds": seconds}})

    shortest = frames * VocoderRun().model.mel.frame_seconds
    assert run(1.001 * shortest).data.validation_seconds > shortest
    with pytest.raises(CloningError, match=f"data.validation_seconds is .*needs {frames} frames"):
        run(0.99 * shortest)
