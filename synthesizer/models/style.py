"""What a synthesizer is told beside text and embedding: facts of a voice, and how single tokens are to be said."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.audio.mel import MelConfig
from utils.voice import USUAL_PACE, USUAL_SPREAD

RAMP_SECONDS = 0.06  # in which a level goes over into the next


def paced(durations_log: Tensor, style: Tensor | None) -> Tensor:
    """Predicted durations_log (B, N) = log(1 + frames) at the rates in style (B, N, 3) (`synthesizer.text.marks`)."""
    if style is None:
        return durations_log
    return torch.log1p((torch.expm1(durations_log) / style[..., 0]).clamp(min=-0.5))


def widened(prosody: Tensor, frames: Tensor, scale: float) -> Tensor:
    """Prosody (B, N, 3) of tokens that take frames (B, N), its pitch `scale` times as far from its median.

    A mean of what may be said is flatter than anything that is said. The median is that of the voiced frames.
    """
    energy, pitch, voicing = prosody.unbind(dim=-1)
    order = pitch.argsort(dim=1)
    before = (frames * (voicing > 0)).gather(1, order).cumsum(dim=1)  # voiced frames up to here, the lowest first
    place = (before >= before[:, -1:] / 2).int().argmax(dim=1, keepdim=True)
    median = pitch.gather(1, order.gather(1, place))
    return torch.stack([energy, median + (pitch - median) * scale, voicing], dim=-1)


def shifted(prosody: Tensor, octaves: float, style: Tensor | None = None) -> Tensor:
    """Prosody (B, N, 3), the pitch of what is voiced moved by `octaves`, and by the semitones in style (B, N, 3)."""
    if octaves == 0 and style is None:
        return prosody
    energy, pitch, voicing = prosody.unbind(dim=-1)
    moved = octaves if style is None else octaves + style[..., 1] / 12
    return torch.stack([energy, pitch + moved * voicing.clamp(0, 1), voicing], dim=-1)


def leveled(mels: Tensor, index: Tensor, style: Tensor | None, config: MelConfig) -> Tensor:
    """Mels (B, M, F) whose frames say the tokens in index (B, F), louder by the decibels in style (B, N, 3)."""
    if style is None or config.scale != "db" or not style[..., 2].any():
        return mels
    decibels = style[..., 2].gather(1, index)[:, None]
    width = 2 * round(RAMP_SECONDS / config.frame_seconds / 2) + 1
    smooth = F.avg_pool1d(F.pad(decibels, (width // 2, width // 2), mode="replicate"), width, stride=1)
    return mels + smooth * (2 * config.max_abs / -config.min_db)


def normal_facts(facts: Tensor) -> Tensor:
    """facts (B, 3) of `utils.voice` -> numbers of about 0 +- 1."""
    pitch, spread, pace = facts.unbind(dim=1)
    return torch.stack([pitch * 2, (spread - USUAL_SPREAD) * 10, (pace - USUAL_PACE) * 5], dim=1)
