"""Pieces that are heard by CAM++ too, and the calibration for them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diarization import windows
from diarization.normalization import CALIBRATIONS, Calibration
from encoder.camplus import CamPlus
from encoder.inference import SpeakerEncoder
from tests.support.camplus import made_camplus, white_noise
from utils.errors import CloningError
from utils.weights.find import DEFAULT_MODELS


def test_pieces_are_heard_by_both():
    made, samples = made_camplus(), white_noise()

    class Ours:
        embedding_size, fingerprint = 1, "ours"
        config = SimpleNamespace(mel=SimpleNamespace(hop_length=160))
        mel = staticmethod(lambda samples: torch.zeros(1, 1 + len(samples) // 160))
        embed_mels = staticmethod(lambda mels: np.ones((len(mels), 1), np.float32))

    chosen = np.zeros((1, 589, 3), bool)
    chosen[0, :140, 0] = True
    local = windows.LocalVoices(chosen.astype(np.float32), chosen, chosen.sum(axis=2))
    told: list[float] = []
    pieces = windows.embed_pieces(Ours(), samples, local, lambda done, of: told.append(done), made)
    ours, theirs = pieces.embeddings[:, :1], pieces.embeddings[:, 1:]
    assert pieces.embeddings.shape == (2, 1 + CamPlus.embedding_size) and np.array_equal(ours, np.ones((2, 1)))
    assert np.linalg.norm(theirs, axis=1) == pytest.approx(windows.CAMPLUS_WEIGHT)
    assert told == sorted(told) and told[-1] == 1
    assert windows.heard_by(Ours(), made) != windows.heard_by(Ours(), None) == "ours"


def test_the_calibration_that_ships_is_of_both():
    made = made_camplus()
    encoder = SpeakerEncoder.load(DEFAULT_MODELS / "encoder.safetensors")
    path = DEFAULT_MODELS / CALIBRATIONS[True]
    shipped = Calibration.load(path, windows.heard_by(encoder, made))
    assert len(shipped.mean) == encoder.embedding_size + CamPlus.embedding_size and shipped.about["talks"] > 1000
    with pytest.raises(CloningError, match="was measured on encoder"):
        Calibration.load(path, windows.heard_by(encoder, None))
