"""What a synthesizer takes beside text and embedding: a voice's statistics, and rate, pitch and level of tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from synthesizer.text.clauses import ahead
from utils.audio.mel import MelConfig
from utils.voice import USUAL_PACE, USUAL_SPREAD

RAMP_SECONDS = 0.06  # in which a level goes over into the next
RISE_SECONDS, RISE_OCTAVES = 0.5, (-1 / 12, 9 / 12)  # how late the pitch of a question rises, from the median


def scale_durations(durations_log: Tensor, style: Tensor | None) -> Tensor:
    """Predicted durations_log (B, N) = log(1 + frames) at the rates in style (B, N, 3) (`synthesizer.text.marks`)."""
    if style is None:
        return durations_log
    return torch.log1p((torch.expm1(durations_log) / style[..., 0]).clamp(min=-0.5))


def scale_pitch(prosody: Tensor, frames: Tensor, scale: float, median: float | None = None) -> Tensor:
    """Prosody (B, N, 3) of tokens that take frames (B, N), its pitch `scale` times as far from its median.

    A predicted pitch is a mean over readings of the text, which is flatter than each of them. median: the new one.
    """
    energy, pitch, voicing = prosody.unbind(dim=-1)
    predicted = median_pitch(prosody, frames)
    wanted = predicted if median is None else predicted.new_full((), median)
    return torch.stack([energy, wanted + (pitch - predicted) * scale, voicing], dim=-1)


def raise_questions(prosody: Tensor, frames: Tensor, marks: Tensor, question: int, frame_seconds: float) -> Tensor:
    """Prosody (B, N, 3) of tokens that take frames (B, N), its pitch rising at the end of yes/no questions.

    marks (B, N): ids of the marks that clauses end with, `question` that of a melody that rises. The melody is that of
    yes/no questions in American English, low and then high (L* H-H%): recordings that ask are too few to learn it from.
    """
    ends = frames.cumsum(dim=1)
    clause_end = torch.where(marks == question, ends - frames, torch.inf).flip(1).cummin(dim=1).values.flip(1)
    left = (clause_end - ends + frames / 2) * frame_seconds  # from the middle of each token
    inside = (ahead(marks)[0] == question) & (left >= 0)
    progress = torch.where(inside, (1 - left / RISE_SECONDS).clamp(min=0), 0.0)
    energy, pitch, voicing = prosody.unbind(dim=-1)
    low, high = RISE_OCTAVES
    melody = median_pitch(prosody, frames) + low + (high - low) * progress
    return torch.stack([energy, torch.lerp(pitch, melody, (3 * progress).clamp(max=1)), voicing], dim=-1)


def median_pitch(prosody: Tensor, frames: Tensor) -> Tensor:
    """The median (B, 1) over voiced frames of the pitch in prosody (B, N, 3) of tokens that take frames (B, N)."""
    pitch, voicing = prosody[..., 1], prosody[..., 2]
    order = pitch.argsort(dim=1)
    before = (frames * (voicing > 0)).gather(1, order).cumsum(dim=1)  # voiced frames up to here, the lowest first
    place = (before >= before[:, -1:] / 2).int().argmax(dim=1, keepdim=True)
    return pitch.gather(1, order.gather(1, place))


def shift_pitch(prosody: Tensor, octaves: float, style: Tensor | None = None) -> Tensor:
    """Prosody (B, N, 3), the pitch of what is voiced moved by `octaves`, and by the semitones in style (B, N, 3)."""
    if octaves == 0 and style is None:
        return prosody
    energy, pitch, voicing = prosody.unbind(dim=-1)
    moved = octaves if style is None else octaves + style[..., 1] / 12
    return torch.stack([energy, pitch + moved * voicing.clamp(0, 1), voicing], dim=-1)


def change_level(mels: Tensor, index: Tensor, style: Tensor | None, config: MelConfig) -> Tensor:
    """Mels (B, M, F) whose frames say the tokens in index (B, F), louder by the decibels in style (B, N, 3)."""
    if style is None or config.scale != "db" or not style[..., 2].any():
        return mels
    decibels = style[..., 2].gather(1, index)[:, None]
    width = 2 * round(RAMP_SECONDS / config.frame_seconds / 2) + 1
    smooth = F.avg_pool1d(F.pad(decibels, (width // 2, width // 2), mode="replicate"), width, stride=1)
    return mels + smooth * (2 * config.max_abs / -config.min_db)


def normalized_statistics(voice_statistics: Tensor) -> Tensor:
    """voice_statistics (B, 3) of `utils.voice` -> numbers of about 0 +- 1."""
    pitch, spread, pace = voice_statistics.unbind(dim=1)
    return torch.stack([pitch * 2, (spread - USUAL_SPREAD) * 10, (pace - USUAL_PACE) * 5], dim=1)
