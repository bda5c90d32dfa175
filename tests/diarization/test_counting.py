"""How many speakers there are: figures of clusterings, and the network that judges them, on made-up pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diarization.calibration import train_counter
from diarization.counting import FIGURES, MAX_SPEAKERS, SpeakerCounter, most_at_once, relations, steps
from diarization.windows import Pieces
from utils.voice import unit


def talk(speakers: int, seed: int, pieces: int = 60, spread: float = 0.2) -> tuple[np.ndarray, Pieces]:
    """Units (P, D) and pieces of a talk in turns of three pieces, two windows of ten seconds for each of them."""
    rng = np.random.default_rng(seed)
    who = np.arange(pieces) // 3 % speakers
    units = unit(unit(rng.standard_normal((speakers, 16)))[who] + spread * rng.standard_normal((pieces, 16)))
    window, place = np.arange(pieces) // 8, np.arange(pieces) % 8
    frames = np.stack([place * 74, place * 74 + 70], axis=1)
    alone = rng.uniform(0.6, 1.3, pieces)
    return units.astype(np.float32), Pieces(window, who % 3, frames, alone, units.astype(np.float32))


@pytest.fixture(scope="module")
def counter() -> SpeakerCounter:
    talks = [(1 + seed % 5, seed) for seed in range(150)]
    return train_counter([steps(*talk(n, seed)) for n, seed in talks], [n for n, _ in talks])


def test_the_number_of_voices_is_learned(counter):
    truth = np.array([1 + seed % 5 for seed in range(1000, 1040)])
    found = np.array([counter.count(steps(*talk(n, seed))) for n, seed in zip(truth, range(1000, 1040), strict=True)])
    assert (found == truth).mean() > 0.9


def test_the_same_talks_and_seed_give_the_same_counter():
    figures = [steps(*talk(2, seed)) for seed in range(3)]
    first = train_counter(figures, [2, 2, 2])
    torch.rand(1)
    for one, other in zip(vars(first).values(), vars(train_counter(figures, [2, 2, 2])).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_never_fewer_than_are_known_to_be_there(counter):
    figures = steps(*talk(2, 7))
    assert counter.count(figures) == counter.count(figures, 2) == 2
    assert all(counter.count(figures, least) >= least for least in (3, 5, 8)) and counter.count(figures, 12) == 12
    assert counter.count(np.zeros((0, FIGURES))) == 1
    assert SpeakerCounter.untrained().count(figures) == 1 and SpeakerCounter.untrained().fits


def test_the_order_of_windows_and_of_voices_in_them_changes_nothing():
    units, pieces = talk(3, 1)
    order = np.random.default_rng(0).permutation(len(units))
    np.testing.assert_allclose(steps(units[order], pieces.only(order)), steps(units, pieces), rtol=2e-3, atol=2e-3)
    renamed = Pieces(pieces.window, 2 - pieces.voice, pieces.frames, pieces.alone, pieces.embeddings)
    np.testing.assert_allclose(steps(units, renamed), steps(units, pieces), rtol=1e-5, atol=1e-6)


def test_turning_the_space_of_voices_changes_nothing():
    units, pieces = talk(3, 2)
    turned = units @ np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0].astype(np.float32)
    np.testing.assert_allclose(steps(turned, pieces), steps(units, pieces), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
def test_few_pieces_have_few_steps(pieces):
    figures = steps(*talk(2, 0, pieces))
    assert figures.shape == (max(0, min(MAX_SPEAKERS, pieces - 1) - 1), FIGURES) and np.isfinite(figures).all()


def test_equal_pieces_are_finite():
    units, pieces = talk(1, 0, spread=0.0)
    assert np.isfinite(steps(units, pieces)).all()


def test_pairs_of_one_local_voice_or_of_the_same_speech_tell_nothing():
    window, voice = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1])
    frames = np.array([[0, 100], [400, 500], [420, 480], [104, 204], [500, 580]])  # 104 + 296 = 400: heard twice
    apart, near, at_once = relations(Pieces(window, voice, frames, np.ones(5), np.eye(5)))
    assert [tuple(pair) for pair in np.argwhere(np.triu(apart, 1))] == [
        (0, 2),
        (0, 3),
        (0, 4),
        (1, 2),
        (1, 4),
        (2, 4),
        (3, 4),
    ]
    assert not near[0, 1] and near[1, 2] and at_once[1, 2] == 1 and np.count_nonzero(at_once) == 2


def test_voices_of_one_window_are_counted_by_what_they_say():
    window, voice = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 0, 1, 2, 0])
    frames = np.zeros((6, 2), int)
    assert most_at_once(Pieces(window, voice, frames, np.full(6, 2.0), np.eye(6))) == 2
    assert most_at_once(Pieces(window, voice, frames, np.full(6, 1.0), np.eye(6))) == 0
    assert most_at_once(Pieces(window[2:5] - 1, voice[2:5], frames[:3], np.full(3, 2.0), np.eye(3))) == 3
