"""From recordings to what the encoder's training reads: speech without silence, noise, rooms."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from encoder.config import SAMPLE_RATE, EncoderConfig
from encoder.names import NOISE_SHARD, ROOM_SHARD, noise_name, room_name
from utils.audio.io import read, to_pcm16
from utils.audio.reference import prepare_reference
from utils.data.corpora import Clip
from utils.data.manifest import Utterance
from utils.data.preprocess import describe
from utils.errors import CloningError, missing_package
from utils.files import atomic_path

log = logging.getLogger(__name__)
TARGET_DBFS = EncoderConfig().target_dbfs


@dataclasses.dataclass
class Preprocessor:
    """Turns one clip into features, the array "wav" (T,) int16; travels to worker processes."""

    min_seconds: float = 0.8  # of voice; less is left out

    def __call__(self, clip: Clip) -> tuple[Utterance, dict[str, np.ndarray]]:
        """Raises CloningError for a clip that cannot be read or holds too little voice."""
        wav = prepare_reference(
            clip.path,
            target_dbfs=TARGET_DBFS,
            sample_rate=SAMPLE_RATE,
            min_seconds=self.min_seconds,
            name=str(clip.path),
        )
        pcm = to_pcm16(wav.samples)
        return describe(clip, seconds=len(pcm) / SAMPLE_RATE), {"wav": pcm}

    def header(self) -> dict[str, Any]:
        """What the manifest says of the features."""
        return {"sample_rate": SAMPLE_RATE, "target_dbfs": TARGET_DBFS, "min_seconds": self.min_seconds}


def write_noise(folders: list[Path], out: Path) -> int:
    """Gather recorded noise into one file beside the shards (`noise_name`); returns how many there are.

    Raises CloningError when a folder holds no audio that can be read.
    """
    arrays: dict[str, np.ndarray] = {}
    for folder in folders:
        before = len(arrays)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            try:
                wav = read(path, sample_rate=SAMPLE_RATE)
            except CloningError as error:
                log.info("no noise: %s", error)
                continue
            peak = max(wav.peak, 1e-9)
            arrays[f"{noise_name(len(arrays))}/wav"] = to_pcm16(wav.samples * (0.5 / peak))
        if len(arrays) == before:
            raise CloningError(f"{folder}: no audio in it to use as noise")
    with atomic_path(out / NOISE_SHARD) as partial:
        save_file(arrays, partial)
    return len(arrays)


def write_rooms(count: int, out: Path, seed: int = 0) -> int:
    """Simulate `count` shoebox rooms and keep their impulse responses beside the shards (`room_name`).

    Offices to halls, reverberation of 0.15 to 0.7 s; float16 (L,), the direct sound first and 1. Raises CloningError
    without pyroomacoustics.
    """
    try:
        import pyroomacoustics
    except ImportError as error:
        raise missing_package("pyroomacoustics", "making rooms", "requirements/rooms.txt") from error
    random = np.random.default_rng(seed)
    arrays = {}
    for index in tqdm(range(count), desc="rooms", disable=None):
        arrays[f"{room_name(index)}/wav"] = _impulse_response(pyroomacoustics, random)
    with atomic_path(out / ROOM_SHARD) as partial:
        save_file(arrays, partial)
    return count


def _impulse_response(pyroomacoustics: Any, random: np.random.Generator) -> np.ndarray:
    while True:
        size = random.uniform((2.5, 2.5, 2.2), (10.0, 8.0, 4.0))  # m
        try:
            absorption, _ = pyroomacoustics.inverse_sabine(random.uniform(0.15, 0.7), size)
            break
        except ValueError:  # a large room cannot be that dry
            continue
    room = pyroomacoustics.ShoeBox(
        size, fs=SAMPLE_RATE, materials=pyroomacoustics.Material(absorption), max_order=20, air_absorption=True
    )
    room.add_source(random.uniform(0.3, size - 0.3))
    room.add_microphone(random.uniform(0.3, size - 0.3))
    room.compute_rir()
    response = np.asarray(room.rir[0][0])
    direct = int(np.abs(response).argmax())
    return (response[direct : direct + SAMPLE_RATE // 2] / response[direct]).astype(np.float16)
