"""A teacher's embeddings of a whole set, in every voice that training makes of it: one pass, on any device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor
from tqdm import tqdm

from encoder.check import check_set
from encoder.config import SAMPLE_RATE, PartialConfig, partial_slices
from encoder.inference import SpeakerEncoder
from encoder.names import TEACHER_FILE, Perturbation, perturbation_name
from encoder.perturbation import formant_shift, perturbed_mel, speed_perturb
from encoder.recordings import by_length
from utils.audio.io import from_pcm16
from utils.data.manifest import Arrays, Manifest
from utils.errors import CloningError
from utils.files import atomic_path

WINDOWS = PartialConfig()  # of 1.6 s, as the published encoder listens
PASS_SECONDS = {"cpu": 200, "cuda": 4000}  # of audio at once


class TeacherEmbeddings(NamedTuple):
    """Embeddings (U, D) of the utterances `ids` in each voice, and whose they are."""

    ids: list[str]
    embeddings: dict[Perturbation, np.ndarray]
    fingerprint: str  # of the teacher


def embed_with_teacher(
    manifest: Manifest, teacher: Path, perturbations: list[Perturbation], device: str = "cpu"
) -> Path:
    """Write `TEACHER_FILE` beside the shards of `manifest`; what it already holds of this teacher is kept.

    Raises CloningError when the teacher cannot be loaded, or wants another sample rate or level than the set's.
    """
    encoder = SpeakerEncoder.load(teacher, device)
    check_set(manifest, encoder.config, "choose another teacher")
    before = read_teacher_embeddings(manifest.root)
    if before is not None and before.fingerprint != encoder.fingerprint:
        before = None
    held = before.embeddings if before is not None else {}
    rows = {id: row for row, id in enumerate(before.ids)} if before is not None else {}
    complete = all(perturbation in held for perturbation in perturbations)
    perturbations = list(dict.fromkeys([*perturbations, *held]))
    arrays, lengths = Arrays(manifest.root), np.array([round(SAMPLE_RATE * u.seconds) for u in manifest.utterances])
    empty = np.zeros((len(lengths), encoder.embedding_size), np.float16)
    found = {perturbation: empty.copy() for perturbation in perturbations}
    known = np.array([complete and u.id in rows for u in manifest.utterances])
    for index in np.flatnonzero(known):
        for perturbation in perturbations:
            found[perturbation][index] = held[perturbation][rows[manifest.utterances[index].id]]
    to_do = np.flatnonzero(~known)
    seconds = PASS_SECONDS.get(encoder.device.type, PASS_SECONDS["cpu"])
    for group in tqdm(by_length(lengths[to_do], seconds * SAMPLE_RATE), desc="teacher", disable=None):
        numbers = to_do[group]
        clips = [arrays.read(manifest.utterances[i], "wav") for i in numbers]
        for perturbation in perturbations:
            found[perturbation][numbers] = embed_clips(encoder, clips, perturbation).half().cpu().numpy()
    about = {"ids": [u.id for u in manifest.utterances], "voices": perturbations}
    path = manifest.root / TEACHER_FILE
    with atomic_path(path) as partial:
        save_file(
            {perturbation_name(v): rows for v, rows in found.items()},
            partial,
            {"teacher": encoder.fingerprint, "about": json.dumps(about)},
        )
    return path


def embed_clips(encoder: SpeakerEncoder, clips: list[np.ndarray], perturbation: Perturbation) -> Tensor:
    """What `encoder` thinks of clips (T,) int16 in a voice: the mean over its windows, length 1: (B, D)"""
    speed, formants = perturbation
    mel_config, device = encoder.config.mel, encoder.device
    padded = torch.zeros(len(clips), max(map(len, clips)), dtype=torch.int16)
    for row, clip in enumerate(clips):
        padded[row, : len(clip)] = torch.from_numpy(clip)
    moves = formant_shift(formants, mel_config, device)[None] if formants != 1 else None
    samples = [int(len(clip) / speed) for clip in clips]
    slices = [partial_slices(n, WINDOWS, mel_config.hop_length)[1] for n in samples]
    places = torch.tensor([(row, start) for row, mine in enumerate(slices) for start, _ in mine], device=device)
    frames = torch.tensor([mel_config.frames(n) for n in samples], device=device)
    with torch.inference_mode():
        wav = speed_perturb(from_pcm16(padded.to(device)), speed)
        mel = perturbed_mel(wav, mel_config, moves)
        inside = torch.arange(mel.size(2), device=device) < frames[:, None]
        mel = torch.nn.functional.pad(mel * inside[:, None], (0, WINDOWS.frames))
        total = torch.zeros(len(clips), encoder.embedding_size, device=device)
        for some in places.split(4096):
            index = some[:, 1:] + torch.arange(WINDOWS.frames, device=device)
            windows = mel[some[:, :1], :, index].transpose(1, 2)  # (W, M, F)
            lengths = None
            if not encoder.config.partials.pad:
                lengths = (frames[some[:, 0]] - some[:, 1]).clamp(max=WINDOWS.frames)
            total.index_add_(0, some[:, 0], encoder.network(windows, lengths).float())
        return total / total.norm(dim=1, keepdim=True).clamp(min=1e-9)


def read_teacher_embeddings(root: Path) -> TeacherEmbeddings | None:
    """The teacher's embeddings of a set, or None where it has none; CloningError where the file is damaged."""
    path = root / TEACHER_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata()
            about = json.loads(header["about"])
            voices = [(float(speed), float(formants)) for speed, formants in about["voices"]]
            return TeacherEmbeddings(
                about["ids"], {v: file.get_tensor(perturbation_name(v)) for v in voices}, header["teacher"]
            )
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        raise CloningError(f"{path}: damaged: {error}; delete it and have the teacher embed the set again") from error
