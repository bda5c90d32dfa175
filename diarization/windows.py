"""Embeddings of a recording: of each local voice from where it speaks alone, and of windows that slide over speech."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diarization.segmentation import FIELD, FRAME, RATE, STEP, LocalVoices, Progress, silent
from diarization.settings import DiarizationSettings
from diarization.turns import join
from encoder.inference import WINDOWS_AT_ONCE, SpeakerEncoder
from utils.audio.io import Waveform
from utils.voice import unit

MOST_SECONDS = 5.0  # of a local voice that are embedded, from the middle of what it says: more change nothing
LEAST_ALONE = 0.4  # seconds; of voices that are less alone, all is embedded
LEAST_HEARD = 0.05
PIECE = 2.5  # seconds into which long stretches are cut, as a change may be within them
LEAST_PIECE = 1.0  # seconds of a stretch that tells one person from another
PAUSE = 0.2  # seconds within a stretch
# Cosine, seen from the mean voice, below which two stretches of a local voice are two people; chosen on `choose`
TWO_PEOPLE = 0.45
VOICES_AT_ONCE = 32  # in one pass of the encoder: bounds its memory
_CHUNK = 32  # windows whose mel is made in one go: bounds the memory of speech without a pause


@dataclass(frozen=True)
class SpeechWindows:
    """What was heard in a recording of `seconds`.

    local: its local voices; embeddings (W, V, D) of them, norm 1; alone (W, V) and said (W, V): seconds in which each
    speaks by itself, and at all, 0 for one that is not embedded. spans (N, 2): windows that slide over speech, in
    seconds, every `hop`; curves (N, D): their embeddings, norm 1.
    """

    seconds: float
    local: LocalVoices
    embeddings: np.ndarray
    alone: np.ndarray
    said: np.ndarray
    spans: np.ndarray
    curves: np.ndarray
    hop: float

    @property
    def centers(self) -> np.ndarray:
        """Centers of the sliding windows in seconds: (N,)"""
        return self.spans.mean(axis=1)


def embed_voices(
    encoder: SpeakerEncoder,
    samples: np.ndarray,
    local: LocalVoices,
    middle: np.ndarray,
    progress: Progress = silent,
) -> tuple[LocalVoices, np.ndarray, np.ndarray, np.ndarray]:
    """Local voices with an embedding each, (W, V, D) of norm 1, and seconds alone (W, V) and said (W, V).

    A voice of a window that is two people by their embeddings, seen from the mean voice `middle` (D,), becomes two: the
    network goes by changes within ten seconds and takes similar voices after a pause for one.
    """
    pieces = _pieces(local)
    embedded = _embed_pieces(encoder, samples, pieces, progress)
    found: list[list[tuple[int, np.ndarray, np.ndarray]]] = [[] for _ in local.chosen]  # voice, frames, embedding
    place = {key: [i for i, piece in enumerate(pieces) if piece[:2] == key] for key in {piece[:2] for piece in pieces}}
    for (w, v), own in sorted(place.items()):
        seconds = np.array([pieces[i][2].sum() for i in own]) * (FRAME / RATE)
        groups = _groups(unit(embedded[own] - middle), seconds)
        at = np.stack([pieces[i][2].nonzero()[0][[0, -1]] for i in own])
        frames = np.arange(len(local.chosen[w]))[:, None]
        nearest = np.maximum(np.maximum(at[:, 0] - frames, frames - at[:, 1]), 0).argmin(axis=1)
        for group in range(groups.max() + 1):
            mean = (embedded[own] * seconds[:, None])[groups == group].sum(axis=0)
            found[w].append((v, groups[nearest] == group, unit(mean)))
    most = max(1, *map(len, found))
    probability = np.zeros((*local.chosen.shape[:2], most), np.float32)
    chosen = np.zeros(probability.shape, bool)
    embeddings = np.zeros((len(found), most, encoder.embedding_size), np.float32)
    for w, voices in enumerate(found):
        for column, (v, frames, embedding) in enumerate(voices):
            probability[w, frames, column] = local.probability[w, frames, v]
            chosen[w, frames, column] = local.chosen[w, frames, v]
            embeddings[w, column] = embedding
    parted = LocalVoices(probability, chosen, local.number)
    alone, said = (part.sum(axis=1) * (FRAME / RATE) for part in (parted.alone, parted.chosen))
    return parted, embeddings, alone, said


def _pieces(local: LocalVoices) -> list[tuple[int, int, np.ndarray]]:
    """Window, voice and frames (F,) bool of what is embedded: each stretch in which a voice is alone, if it is long
    enough; else all that it says alone, else all that it says."""
    pieces: list[tuple[int, int, np.ndarray]] = []
    alone = local.alone
    for w, v in zip(*np.nonzero(local.chosen.any(axis=1)), strict=True):
        frames = np.arange(len(alone[w]))
        turns = np.diff(local.chosen[w, :, v].astype(np.int8), prepend=0, append=0).nonzero()[0].reshape(-1, 2)
        stretches = [alone[w, :, v] & (frames >= a) & (frames < b) for a, b in join(turns, PAUSE * RATE / FRAME)]
        long = [stretch for stretch in stretches if stretch.sum() >= LEAST_PIECE * RATE / FRAME]
        if not long:
            enough = alone[w, :, v].sum() >= LEAST_ALONE * RATE / FRAME
            long = [(alone if enough else local.chosen)[w, :, v]]
        for stretch in long:
            (at,) = stretch.nonzero()
            if len(at) >= LEAST_HEARD * RATE / FRAME:
                parts = np.array_split(at, max(1, round(len(at) * FRAME / RATE / PIECE)))
                pieces += [(int(w), int(v), np.isin(frames, part)) for part in parts]
    return pieces


def _groups(embeddings: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Which pieces (P, D), of norm 1 and so many seconds (P,), of a voice are one person: (P,) from 0."""
    sure = np.flatnonzero(seconds >= LEAST_PIECE)
    if len(sure) < 2:
        return np.zeros(len(embeddings), int)
    from scipy.cluster.hierarchy import fcluster, linkage

    return fcluster(linkage(embeddings, "average", "cosine"), 1 - TWO_PEOPLE, "distance") - 1


def _embed_pieces(
    encoder: SpeakerEncoder, samples: np.ndarray, pieces: list[tuple[int, int, np.ndarray]], progress: Progress
) -> np.ndarray:
    """Embeddings (P, D) of the frames of each, of those in the middle where there are many."""
    embeddings = np.zeros((len(pieces), encoder.embedding_size), np.float32)
    pending: list[Tensor] = []
    hop = encoder.config.mel.hop_length
    last, mel = -1, None
    for i, (w, _, chosen) in enumerate(pieces):
        if mel is None or w != last:
            last, begin = w, w * STEP * FRAME
            mel = encoder.mel(samples[begin : begin + len(chosen) * FRAME])
        columns = np.clip((np.arange(mel.size(1)) * hop - (FIELD - FRAME) // 2) // FRAME, 0, len(chosen) - 1)
        kept = np.flatnonzero(chosen[columns])
        over = max(0, len(kept) - round(MOST_SECONDS * RATE / hop)) // 2
        pending.append(mel[:, kept[over : len(kept) - over] if len(kept) else [0]])
        if len(pending) == VOICES_AT_ONCE or i + 1 == len(pieces):
            embeddings[i + 1 - len(pending) : i + 1] = unit(encoder.embed_mels(pending))
            pending = []
            progress((i + 1) / len(pieces), "listening")
    return embeddings


def slide(span: tuple[float, float], window: float, hop: float) -> np.ndarray:
    """Windows (N, 2) over one stretch: every `hop` seconds, the last one ending with it; a short one has one window."""
    start, stop = span
    if stop - start <= window:
        return np.array([[start, stop]])
    starts = np.arange(start, stop - window, hop)
    starts = np.append(starts, stop - window)
    return np.stack([starts, starts + window], axis=1)


def embed_speech(
    encoder: SpeakerEncoder,
    audio: Waveform,
    speech: np.ndarray,
    settings: DiarizationSettings,
    progress: Progress = silent,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Windows (N, 2) over stretches of speech (K, 2), in seconds, their embeddings (N, D), and the hop; memory is
    bounded however long the recording is, and there are at most about `settings.most_windows`."""
    hop = max(settings.hop, float(np.diff(speech, axis=1).sum()) / settings.most_windows)
    per_stretch = [slide(tuple(span), settings.window, hop) for span in speech]
    spans = np.concatenate(per_stretch) if per_stretch else np.zeros((0, 2))
    return spans, _embed(encoder, audio, per_stretch, len(spans), progress), hop


def _embed(
    encoder: SpeakerEncoder, audio: Waveform, per_stretch: list[np.ndarray], count: int, progress: Progress
) -> np.ndarray:
    found = np.empty((count, encoder.embedding_size), np.float32)
    pending: list[Tensor] = []
    done = 0
    hop, rate, samples = encoder.config.mel.hop_length, audio.sample_rate, audio.samples
    for windows in per_stretch:
        for first in range(0, len(windows), _CHUNK):
            places = np.rint(windows[first : first + _CHUNK] * rate).astype(int)
            begin = places[0, 0]
            mel = encoder.mel(samples[begin : places[-1, 1]])
            pending += [mel[:, (a - begin) // hop : max((b - begin) // hop, (a - begin) // hop + 1)] for a, b in places]
            if len(pending) >= WINDOWS_AT_ONCE:
                found[done : done + len(pending)] = encoder.embed_mels(pending)
                done += len(pending)
                progress(done / count, "drawing curves")
                pending = []
    if pending:
        found[done:] = encoder.embed_mels(pending)
    return unit(found)
