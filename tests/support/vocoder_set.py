"""A small preprocessed set of made-up voices, and fresh networks, for the vocoder's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from utils.audio.pitch import pitch
from utils.data.manifest import Manifest, Utterance, write_manifest, write_shard
from vocoder.config import VocoderConfig
from vocoder.model import build_network
from vocoder.models.hifigan import GuidedHifiGan

RATE, HOP = 16000, 200


def voice(seconds: float, seed: int) -> np.ndarray:
    """Harmonics of a gliding pitch under a syllable-like envelope, with a little breath: (T,) float32, peak 0.9."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))) / RATE
    wav = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * t + seed))
    wav = wav + 0.01 * rng.standard_normal(len(t))
    return (0.9 * wav / np.abs(wav).max()).astype(np.float32)


def speaking_network(config: VocoderConfig) -> nn.Module:
    """A fresh network; one that begins as a copy of its guide adds something to it."""
    network = build_network(config)
    if isinstance(network, GuidedHifiGan):
        nn.init.constant_(network.generator.conv_out.parametrizations.weight.original0, 0.1)
    return network


def make_set(root: Path, *, mel: np.ndarray | None = None, seconds: tuple[float, ...] = (1.0, 1.6, 0.3)) -> Manifest:
    """Three speakers (the last one held out), one utterance for each of `seconds`; `mel`: stored with each of them."""
    utterances, arrays = [], {}
    for speaker, split in (("a", "train"), ("b", "train"), ("c", "validation")):
        for i, length in enumerate(seconds):
            wav = voice(length, seed=ord(speaker) + 7 * i)
            id = f"made-{speaker}/{i}"
            extra = {} if mel is None else {"teacher_forced": True}
            frames = 1 + len(wav) // HOP
            utterance = Utterance(
                id, speaker, seconds=length, frames=frames, split=split, shard="shards/0.safetensors", extra=extra
            )
            utterances.append(utterance)
            arrays[f"{id}/wav"] = np.rint(wav * 32767).astype(np.int16)
            arrays[f"{id}/pitch"] = pitch(wav, RATE, HOP, high=600.0).astype(np.float16)
            if mel is not None:
                arrays[f"{id}/mel"] = mel[:frames].astype(np.float16)
    write_shard(root, "0", utterances, arrays, [])
    return write_manifest(root, "vocoder", utterances, [], sample_rate=RATE, pitch=True)
