"""Measures an encoder's `Calibration`: on single-speaker clips the spread of short pieces, heard in rooms, noise and
telephones, and the cosine from which on two clips are one voice; on talks how many speakers there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from diarization.counting import MAX_SPEAKERS, SpeakerCounter
from diarization.normalization import Calibration, noise_of
from diarization.pipeline import Diarizer
from diarization.segmentation import RATE
from diarization.settings import DiarizationSettings
from diarization.windows import PIECE, beside, embed_speech, heard_by
from encoder.augment import Sounds, augment
from encoder.camplus import HOP, CamPlus
from encoder.config import AugmentConfig
from encoder.inference import SpeakerEncoder
from utils.audio.io import Waveform
from utils.errors import CloningError
from utils.voice import unit

CLIPS_OF_A_VOICE = 4
WINDOWS_OF_A_CLIP = 8
LEAST_WINDOWS = 3  # of a clip, for its mean to be compared: the worth of a short reference
LEAST_VOICES = 20
HIDDEN = 32  # units of the network that counts ...
STEPS, BATCH, LEARNING_RATE, DECAY, DROPOUT = 400, 256, 1e-2, 0.5, 0.3  # ... and how it learns; chosen on `choose`
ROUGH = AugmentConfig(
    noise=0.8, noise_snr_db=(5.0, 20.0), babble=0, reverb=0.5, reverb_seconds=(0.2, 0.7), equalizer=0.3, band_limit=0.2,
    telephone=0.3, gain=0, mask=0,
)  # fmt: skip


def calibrate(
    encoder: SpeakerEncoder,
    voices: Mapping[str, Sequence[Path]],
    talks: Iterable[tuple[Waveform, int]] = (),
    settings: DiarizationSettings | None = None,
    camplus: CamPlus | None = None,
) -> Calibration:
    """From clips of each voice, and from talks with the number of their speakers; without talks, all is one speaker.

    Of a voice with many clips, an even choice of the sorted ones, so that sessions differ. Windows do not overlap.
    Raises CloningError when too few voices say enough.
    """
    settings = settings or DiarizationSettings()
    apart = replace(settings, hop=settings.window)
    draws, noises = np.random.default_rng(0), torch.Generator().manual_seed(0)
    rough, first, last = [], [], []
    for _, paths in tqdm(sorted(voices.items()), desc="calibrating", unit="voice", disable=None):
        paths = sorted(paths)
        chosen = np.unique(np.linspace(0, len(paths) - 1, CLIPS_OF_A_VOICE).astype(int))
        wavs = [shortened(encoder.preprocess(paths[i]), settings) for i in chosen]
        clips = [windows_of(encoder, wav, apart)[:WINDOWS_OF_A_CLIP] for wav in wavs]
        rough.append([rough_pieces(encoder, wav, draws, noises, camplus) for wav in wavs])
        means = [unit(rows.mean(axis=0)) for rows in clips if len(rows) >= LEAST_WINDOWS]
        if len(means) > 1:
            first.append(means[0])
            last.append(means[-1])
    voiced = [np.concatenate(pieces) for pieces in rough]
    means_of_voices = [rows.mean(axis=0) for rows in voiced if len(rows) > 1]
    if len(means_of_voices) < LEAST_VOICES:
        raise CloningError(
            f"{len(means_of_voices)} voices with two pieces or more; at least {LEAST_VOICES} are wanted to calibrate"
        )
    cosines = np.array(first) @ np.array(last).T
    others = ~np.eye(len(cosines), dtype=bool)
    same, different = np.diag(cosines), cosines[others]
    # Not where both errors are equal: that hangs on a few odd pairs
    threshold = float(np.quantile(same, 0.1) + np.quantile(different, 0.9)) / 2
    about = {
        "voices": sum(len(rows) > 1 for rows in voiced),
        "pieces": sum(map(len, voiced)),
        "seconds a piece": PIECE,
        "voices with two clips": len(cosines),
        "misses at the threshold": round(float((same < threshold).mean()), 4),
        "false alarms at the threshold": round(float((different >= threshold).mean()), 4),
    }
    noise = noise_of(rough, between=camplus is not None)  # which helps CAM++ only; chosen on `choose`
    mean = np.mean(means_of_voices, axis=0).astype(np.float32)
    plain = Calibration(heard_by(encoder, camplus), mean, noise, SpeakerCounter.untrained(), threshold, about)
    return with_counter(Diarizer(encoder, plain, settings, camplus), talks)


def with_counter(diarizer: Diarizer, talks: Iterable[tuple[Waveform, int]]) -> Calibration:
    """The calibration of `diarizer` with a counter that learned from talks and their numbers of speakers."""
    figures, numbers = [], []
    for audio, number in tqdm(talks, desc="learning to count", unit="talk", disable=None):
        found = diarizer.figures(diarizer.prepare(audio))
        if len(found):
            figures.append(found)
            numbers.append(number)
    about = {**diarizer.calibration.about, "talks": len(numbers)}
    if not numbers:
        return replace(diarizer.calibration, about=about)
    return replace(diarizer.calibration, counter=train_counter(figures, numbers), about=about)


def train_counter(figures: Sequence[np.ndarray], numbers: Sequence[int], seed: int = 0) -> SpeakerCounter:
    """From the figures (K, F) of the steps of each talk, and how many speakers it has: the likelihood of these numbers
    is made high."""
    rows = torch.zeros(len(figures), MAX_SPEAKERS - 1, figures[0].shape[1])
    real = torch.zeros(rows.shape[:2], dtype=torch.bool)
    for i, found in enumerate(figures):
        rows[i, : len(found)] = torch.from_numpy(found)
        real[i, : len(found)] = True
    wanted = torch.minimum(torch.tensor(numbers) - 1, real.sum(dim=1))
    mean, scale = rows[real].mean(dim=0), rows[real].std(dim=0) + 1e-3
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = torch.nn.Linear(rows.size(2), HIDDEN), torch.nn.Linear(HIDDEN, 1)
        network = torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Dropout(DROPOUT), last)
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / STEPS, STEPS)
        for _ in range(STEPS):
            batch = torch.randint(len(rows), (BATCH,), generator=generator)
            odds = network((rows[batch] - mean) / scale)[..., 0].masked_fill(~real[batch], -30.0)
            scores = torch.cat([torch.zeros(BATCH, 1), odds.cumsum(dim=1)], dim=1)
            loss = torch.nn.functional.cross_entropy(scores, wanted[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        hidden = torch.cat([first.weight.T, first.bias[None]]).numpy()
        output = torch.cat([last.weight[0], last.bias]).numpy()
    return SpeakerCounter(mean.numpy(), scale.numpy(), hidden, output)


def shortened(wav: Waveform, settings: DiarizationSettings) -> Waveform:
    """What is used of a clip."""
    return Waveform(wav.samples[: round(WINDOWS_OF_A_CLIP * settings.window * wav.sample_rate)], wav.sample_rate)


def windows_of(encoder: SpeakerEncoder, wav: Waveform, settings: DiarizationSettings) -> np.ndarray:
    """(N, D): windows of one clip, freed of silence, that last at least half of their length."""
    if wav.seconds < settings.window / 2:
        return np.zeros((0, encoder.embedding_size), np.float32)
    return embed_speech(encoder, wav, np.array([[0.0, wav.seconds]]), settings)[1]


def rough_pieces(
    encoder: SpeakerEncoder,
    wav: Waveform,
    draws: np.random.Generator,
    noises: torch.Generator,
    camplus: CamPlus | None = None,
) -> np.ndarray:
    """(N, D): pieces of `diarization.windows.PIECE` seconds of one clip, in one made-up room or telephone."""
    samples = torch.from_numpy(np.ascontiguousarray(wav.samples, np.float32))[None]
    heard = augment(samples, ROUGH, draws, noises, wav.sample_rate, Sounds(other=_nobody))[0]
    ours = _cut(encoder, heard.numpy(), encoder.config.mel.hop_length)
    return ours if camplus is None else beside(ours, _cut(camplus, heard.numpy(), HOP))


def _cut(encoder: SpeakerEncoder | CamPlus, samples: np.ndarray, hop: int) -> np.ndarray:
    """(N, D), norm 1: embeddings of samples at 16 kHz, cut to pieces of equal length."""
    mel, size = encoder.mel(samples), round(PIECE * RATE / hop)
    pieces = [mel[:, start : start + size] for start in range(0, mel.size(1) - size + 1, size)]
    return unit(encoder.embed_mels(pieces)) if pieces else np.zeros((0, encoder.embedding_size), np.float32)


def _nobody(rows: int, draws: np.random.Generator) -> torch.Tensor:
    raise ValueError("nobody else speaks in the clips that are calibrated on")
