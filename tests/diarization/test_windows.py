"""Local voices and their embeddings, by an encoder that hears nothing but the sign of the samples."""

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


def embedded(samples: np.ndarray, local: LocalVoices):
    return windows.embed_voices(Signs(), samples, local, np.full(2, 0.5, np.float32))


def test_two_people_in_one_voice_are_parted_and_one_is_not():
    samples = np.ones(10 * RATE, np.float32)
    local = voices_of((1, 3), (4, 4.3), (6, 9))
    parted, embeddings, alone, said = embedded(samples, local)
    assert parted.chosen.shape[2] == 1 and (parted.chosen[..., 0] == local.chosen[..., 0]).all()
    samples[5 * RATE :] *= -1
    parted, embeddings, alone, said = embedded(samples, local)
    assert parted.chosen.shape[2] == 2 and (parted.chosen.any(axis=2) == local.chosen[..., 0]).all()
    assert (parted.chosen.sum(axis=2) <= 1).all() and sorted(said[0].round(1)) == pytest.approx([2.3, 3.0], abs=0.05)
    np.testing.assert_allclose(np.sort(embeddings[0], axis=0), [[0, 0], [1, 1]], atol=1e-3)


def test_a_word_does_not_part_a_voice():
    samples = np.ones(10 * RATE, np.float32)
    samples[5 * RATE :] *= -1
    assert embedded(samples, voices_of((1, 3), (6, 6.8)))[0].chosen.shape[2] == 1


def test_a_voice_is_embedded_where_it_is_alone():
    samples = np.ones(10 * RATE, np.float32)
    samples[3 * RATE :] *= -1
    _, embeddings, alone, said = embedded(samples, voices_of((1, 6), second=(3, 8)))
    np.testing.assert_allclose(embeddings[0], [[1, 0], [0, 1]], atol=1e-3)
    assert alone[0] == pytest.approx([2, 2], abs=0.05) and said[0] == pytest.approx([5, 5], abs=0.05)


def test_what_nobody_says_has_no_voice():
    parted, embeddings, _, said = embedded(np.zeros(10 * RATE, np.float32), voices_of())
    assert not parted.chosen.any() and not said.any() and not embeddings.any()


def test_a_long_recording_has_no_more_windows_than_a_page_can_show():
    settings = DiarizationSettings(most_windows=20)
    audio = Waveform(np.ones(60 * RATE, np.float32), RATE)
    spans, curves, hop = windows.embed_speech(Signs(), audio, np.array([[0.0, 40.0], [42.0, 60.0]]), settings)
    assert len(spans) == len(curves) <= 22 and hop == pytest.approx(2.9) and spans[-1, 1] == 60
    result = Diarization([], [], spans.mean(axis=1), curves, audio, settings, hop=hop)
    assert np.diff(result.times).max() < result.longest_step
