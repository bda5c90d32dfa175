"""Pieces of local voices and their embeddings, by an encoder that hears nothing but the sign of the samples."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diarization import windows
from diarization.pipeline import Diarization
from diarization.segmentation import FRAMES, LocalVoices
from diarization.settings import DiarizationSettings
from utils.audio.io import Waveform

RATE = 16000


class Signs:
    """An encoder of two dimensions: one for positive samples, one for negative ones."""

    embedding_size = 2
    config = SimpleNamespace(mel=SimpleNamespace(hop_length=160))

    def mel(self, samples: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(samples[::160]))[None]

    def embed_mels(self, mels) -> np.ndarray:
        means = [float(mel.mean()) for mel in mels]
        return np.array([[max(mean, 0), max(-mean, 0)] for mean in means], np.float32) + 1e-6


def voices_of(*stretches: tuple[float, float], second: tuple[float, float] = (0, 0)) -> LocalVoices:
    at = np.arange(FRAMES) * 270 / RATE
    chosen = np.zeros((1, FRAMES, 3), bool)
    for start, stop in stretches:
        chosen[0, (at >= start) & (at < stop), 0] = True
    chosen[0, (at >= second[0]) & (at < second[1]), 1] = True
    return LocalVoices(chosen.astype(np.float32), chosen, chosen.sum(axis=2))


def embedded(samples: np.ndarray, local: LocalVoices) -> windows.Pieces:
    return windows.embed_pieces(Signs(), samples, local)


def test_what_a_voice_says_is_cut_into_pieces_of_about_a_second():
    local = voices_of((1, 3.5), (4, 4.3), (4.35, 4.6), second=(6, 9))
    pieces = embedded(np.ones(10 * RATE, np.float32), local)
    seconds = np.diff(pieces.frames, axis=1)[:, 0] * 270 / RATE
    assert pieces.voice.tolist() == [0, 0, 0, 1, 1] and seconds == pytest.approx([1.25, 1.25, 0.6, 1.5, 1.5], abs=0.03)
    covered = np.zeros(local.chosen.shape[1:], int)
    for voice, (start, stop) in zip(pieces.voice, pieces.frames, strict=True):
        covered[start:stop, voice] += 1
    assert covered.max() == 1 and (covered[local.chosen[0]] == 1).all()


def test_a_piece_is_embedded_where_it_is_alone():
    samples = np.ones(10 * RATE, np.float32)
    samples[round(2.8 * RATE) : round(3.2 * RATE)] = -5
    pieces = embedded(samples, voices_of((2, 3.2), second=(2.8, 4)))
    np.testing.assert_allclose(pieces.embeddings, [[1, 0], [1, 0]], atol=0.1)
    assert pieces.alone == pytest.approx([0.8, 0.8], abs=0.05)
    hidden = embedded(samples, voices_of((2, 3.2), second=(2.1, 3.1)))  # too little alone: all of it counts
    np.testing.assert_allclose(hidden.embeddings, [[0, 1], [0, 1]], atol=0.1)


def test_what_nobody_says_has_no_pieces():
    pieces = embedded(np.zeros(10 * RATE, np.float32), voices_of())
    assert len(pieces) == 0 and pieces.embeddings.shape == (0, 2)


def test_a_long_recording_has_no_more_windows_than_a_page_can_show():
    settings = DiarizationSettings(most_windows=20)
    audio = Waveform(np.ones(60 * RATE, np.float32), RATE)
    spans, curves, hop = windows.embed_speech(Signs(), audio, np.array([[0.0, 40.0], [42.0, 60.0]]), settings)
    assert len(spans) == len(curves) <= 22 and hop == pytest.approx(2.9) and spans[-1, 1] == 60
    result = Diarization([], [], spans.mean(axis=1), curves, audio, settings, hop=hop)
    assert np.diff(result.times).max() < result.longest_step
