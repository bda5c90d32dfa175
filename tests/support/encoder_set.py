"""A small feature set of made-up voices, for the tests of the encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from encoder.names import TEACHER_FILE, Perturbation, perturbation_name, perturbations_of
from utils.data.manifest import Manifest, Utterance, write_manifest, write_shard

RATE = 16_000


def voice(speaker: int, seconds: float, seed: int = 0) -> np.ndarray:
    """A buzz with the pitch and the two formants of a speaker, louder and softer in syllables: (T,) float32."""
    random = np.random.default_rng([speaker, seed])
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 90 + 25 * speaker + 3 * np.sin(2 * np.pi * random.uniform(2, 4) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = (400 + 70 * speaker, 1400 + 150 * (speaker % 5))
    wav = np.zeros_like(time)
    for harmonic in range(1, 25):
        frequency = harmonic * (90 + 25 * speaker)
        gain = sum(np.exp(-(((frequency - f) / 250) ** 2)) for f in formants) + 0.02
        wav += gain * np.sin(harmonic * phase + random.uniform(0, 6))
    wav *= 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time + random.uniform(0, 6))
    wav += 0.01 * random.standard_normal(len(time))
    return (0.1 * wav / np.abs(wav).max()).astype(np.float32)


def write_set(
    root: Path,
    speakers: int = 6,
    utterances: int = 3,
    held_out: int = 2,
    teacher: int = 0,
    noise: int = 0,
    rooms: int = 0,
    speeds: tuple[float, ...] = (),
    formants: tuple[float, ...] = (),
) -> Manifest:
    """Speakers 0 .. with `utterances` each (the first has one); the last `held_out` are for validation."""
    random = np.random.default_rng(1)
    rows, arrays = [], {}
    taught: dict[Perturbation, list[np.ndarray]] = {}
    for s in range(speakers):
        center = random.random(max(teacher, 1))
        for i in range(1 if s == 0 else utterances):
            name, seconds = f"s{s}/u{i}", 0.7 if i == 1 else 1.4 + 0.2 * i
            arrays[f"{name}/wav"] = (voice(s, seconds, i) * 32767).astype(np.int16)
            if teacher:
                whole = center + 0.1 * random.random(teacher)
                for turn, made in enumerate(perturbations_of(speeds, formants)):
                    taught.setdefault(made, []).append(np.roll(whole, turn) / np.linalg.norm(whole))
            split = "validation" if s >= speakers - held_out else "train"
            rows.append(Utterance(name, f"toy-{s}", seconds=seconds, split=split, shard="shards/a.safetensors"))
    write_shard(root, "a", rows, arrays, [])
    header = {"sample_rate": 16_000, "target_dbfs": -30.0}
    if teacher:
        about = {"ids": [u.id for u in rows], "voices": list(taught)}
        vectors = {perturbation_name(made): np.stack(found).astype(np.float16) for made, found in taught.items()}
        save_file(vectors, root / TEACHER_FILE, {"teacher": "0", "about": json.dumps(about)})
    if noise:
        sounds = {f"noise{i:05d}/wav": random.integers(-999, 999, 30000).astype(np.int16) for i in range(noise)}
        save_file(sounds, root / "noise.safetensors")
        header["noise"] = noise
    if rooms:
        echo = np.zeros(200, np.float16)
        echo[0], echo[100] = 1, 0.5
        save_file({f"room{i:05d}/wav": echo for i in range(rooms)}, root / "rooms.safetensors")
        header["rooms"] = rooms
    return write_manifest(root, "encoder", rows, [], **header)
