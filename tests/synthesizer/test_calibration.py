"""What a checkpoint asks predictions to be multiplied by is read from old and new files, and granted within limits."""

from __future__ import annotations

import logging

import pytest
import torch

from synthesizer.calibration import PITCH_SCALES, ProsodyCalibration, calibration_of
from utils.weights.checkpoint import Checkpoint, Header, load_weights, save_weights


def stored(tmp_path, **header) -> Checkpoint:
    path = tmp_path / "x.safetensors"
    save_weights(path, Header("synthesizer", {}, **header), {"weight": torch.ones(2, 2)})
    return load_weights(path)


def test_it_is_read_from_its_own_field_and_from_the_metrics_of_older_files(tmp_path):
    asked = {"duration_scale": 1.143, "pitch_scale": 1.3}
    wanted = ProsodyCalibration(1.143, 1.3)
    assert calibration_of(stored(tmp_path, calibration=asked, metrics={"duration_scale": 1.4})) == wanted
    assert calibration_of(stored(tmp_path, metrics=asked)) == wanted
    assert calibration_of(stored(tmp_path, metrics={"tempo": 1.143, "pitch_scale": 1.3})) == wanted
    assert calibration_of(stored(tmp_path)) == ProsodyCalibration()


@pytest.mark.parametrize("value", [0.0, -1.0, 11.0, float("nan"), "2", None, [1.2]])
def test_what_is_no_sound_value_changes_nothing(tmp_path, value):
    assert calibration_of(stored(tmp_path, calibration={"duration_scale": value})) == ProsodyCalibration()


def test_a_limit_is_told_in_the_log(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = calibration_of(stored(tmp_path, metrics={"tempo": 0.5, "pitch_scale": 1.74}))
    assert found == ProsodyCalibration(0.7, PITCH_SCALES[1])
    assert "asks for pitch_scale 1.74; 1.6 is the limit" in caplog.text
    assert "asks for duration_scale 0.5; 0.7 is the limit" in caplog.text
