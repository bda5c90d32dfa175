"""A WaveRNN that is guided by a frame-rate vocoder.

It hears the waveform that the guide makes of the same mel, and draws the difference between it and the recording,
sample after sample: so it only learns what is left, as LPCNet (arXiv 1810.11846) learns the residual of a linear
prediction. The phases of a recording do not follow from its mel: in training it gets those of the guide.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.audio.mel import preemphasis
from vocoder.config import WaveRNNConfig
from vocoder.wavernn.quantize import compress

WINDOW = 512  # samples of the transform that phases are taken over in, hop a quarter
AHEAD = 1  # row i of the conditioning predicts sample i + 1, as the published models learn it


def guide_inputs(guide: Tensor, config: WaveRNNConfig) -> Tensor:
    """A guide (B, T) as `emphasized` makes it -> what the network hears of it (B, T + guide_taps).

    Entries i .. i + guide_taps belong to row i of the conditioning: on the scale of the labels, a quarter of them
    before the sample that is predicted, silence beyond the ends.
    """
    before = config.guide_taps // 4 - AHEAD
    return F.pad(compress(guide, 2**config.bits), (before, config.guide_taps - before))


def emphasized(wav: Tensor, config: WaveRNNConfig) -> Tensor:
    """Plain waveform (B, T) -> pre-emphasized, in [-1, 1]."""
    return preemphasis(wav, config.preemphasis).clamp(-1, 1)


def with_phases_of(guide: Tensor, wav: Tensor) -> Tensor:
    """The waveforms (B, T) whose spectra have the magnitudes of `wav` (B, T) and the phases of `guide` (B, T)."""
    window, hop = torch.hann_window(WINDOW, device=wav.device), WINDOW // 4
    made, real = (torch.stft(x.float(), WINDOW, hop, window=window, return_complex=True) for x in (guide, wav))
    return torch.istft(torch.polar(real.abs(), made.angle()), WINDOW, hop, window=window, length=wav.size(1))
