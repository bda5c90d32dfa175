"""Sound in pieces is resampled as a whole would be."""

from __future__ import annotations

import numpy as np
import pytest

from utils.audio.io import resample
from utils.audio.resampling import resample_pieces


@pytest.mark.parametrize("rates", [(16_000, 24_000), (22_050, 16_000), (16_000, 16_000)])
def test_pieces_join_to_the_whole(rates):
    sound = 0.5 * np.sin(np.arange(9000) / 7).astype(np.float32)
    pieces = np.split(sound, [1, 40, 5000])
    joined = np.concatenate(list(resample_pieces(pieces, *rates)))
    whole = resample(sound, *rates)
    assert abs(len(joined) - len(whole)) <= 1
    np.testing.assert_allclose(joined[: len(whole)], whole[: len(joined)], atol=1e-5)


def test_overshoot_is_cut_at_full_scale():
    square = np.sign(np.sin(np.arange(4000) / 9)).astype(np.float32)
    assert max(np.abs(piece).max(initial=0) for piece in resample_pieces([square], 16_000, 24_000)) <= 1
