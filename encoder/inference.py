"""Voices as points: `SpeakerEncoder` turns speech into an embedding of length 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from encoder.config import EncoderConfig, PartialConfig, Slices, partial_slices
from encoder.model import load_network
from encoder.network import EncoderNetwork
from encoder.streaming import VoiceStream
from utils.audio.arrays import is_array, require_finite
from utils.audio.io import Source, Waveform, dbfs, read, resample
from utils.audio.mel import mel_spectrogram
from utils.audio.pitch import pitch as pitch_track
from utils.audio.reference import prepare_reference, raise_and_trim
from utils.audio.vad import DEFAULT, VadConfig
from utils.errors import CloningError
from utils.voice import Voice, pitch_statistics, unit
from utils.weights.checkpoint import load_weights

WINDOWS_AT_ONCE = 128  # bounds the memory of a pass, however many clips are asked for


@dataclasses.dataclass(frozen=True)
class UtteranceEmbedding:
    """One utterance: its embedding (D,), those of its windows (N, D), and where they lie in samples."""

    embedding: np.ndarray
    partials: np.ndarray
    slices: Slices


class SpeakerEncoder:
    """A trained speaker encoder.

    Arrays (16 kHz; floats or integers, mono or in channels, as `Waveform.from_array` takes them) and `Waveform`s
    (resampled to 16 kHz) are embedded as they are, silence and offset too; paths, bytes and files are read, raised to a
    common volume and freed of silence first, as `preprocess` does.

    >>> encoder = SpeakerEncoder.load("encoder.safetensors")
    >>> voice = encoder.embed(["a.wav", "b.flac"])          # one speaker, several clips -> (256,)
    >>> a, b = encoder.embed_batch(["a.wav", "c.wav"])      # (2, 256)
    >>> float(a @ b)                                        # cosine: both have length 1
    """

    def __init__(
        self, network: EncoderNetwork, config: EncoderConfig, fingerprint: str = "", device: str | torch.device = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.config, self.fingerprint = config, fingerprint

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> SpeakerEncoder:
        """From our `.safetensors` or the published `encoder.pt`; CloningError when it is neither or does not fit."""
        checkpoint = load_weights(path, "encoder")
        network, config = load_network(checkpoint)
        return cls(network, config, checkpoint.fingerprint, device)

    @property
    def embedding_size(self) -> int:
        """D."""
        return self.config.embedding_size

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.network.parameters()) / 1e6
        return (
            f"SpeakerEncoder({self.config.architecture}, {millions:.2f} M parameters, "
            f"{self.embedding_size} dimensions, {self.fingerprint or 'untrained'}, {self.device})"
        )

    def _repr_html_(self) -> str:
        windows, hop = self.config.partials, self.config.mel.frame_seconds
        rows = {
            "architecture": self.config.architecture,
            "parameters": f"{sum(p.numel() for p in self.network.parameters()):,}",
            "embedding": f"{self.embedding_size} dimensions, length 1",
            "windows": f"{windows.frames * hop:g} s every {windows.step * hop:g} s",
            "fingerprint": self.fingerprint or "untrained",
        }
        cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
        return f"<table><caption>SpeakerEncoder</caption>{cells}</table>"

    def preprocess(self, source: Source, *, trim: bool = True, vad: VadConfig = DEFAULT) -> Waveform:
        """Read, bring to mono 16 kHz, raise quiet audio to a common volume, cut out silence.

        `vad=utils.audio.vad.SILERO` keeps faint speech that the default detector takes for silence.
        """
        return prepare_reference(
            source, target_dbfs=self.config.target_dbfs, sample_rate=self.config.mel.sample_rate, trim=trim, vad=vad
        )

    def stream(self, *, min_seconds: float = 1.6, gain: float | None = None, vad: VadConfig = DEFAULT) -> VoiceStream:
        """Embed a voice while it is being heard, from pieces of any length (`encoder.streaming.VoiceStream`).

        min_seconds: voice wanted before the first embedding; gain: a factor that stands for the volume normalization
        where the level is known; None follows the level of what was heard so far.
        """
        return VoiceStream(self, min_seconds, gain, vad)

    def embed(self, clips: Source | Sequence[Source]) -> np.ndarray:
        """The embedding (D,) of one speaker from one clip or several."""
        return self.embed_speaker(_listed(clips))

    def embed_voice(
        self,
        clips: Source | Sequence[Source],
        *,
        min_seconds: float = 1.0,
        names: Sequence[str] = (),
        pitch: bool = True,
    ) -> Voice:
        """One speaker from one clip or several: embedding, level, seconds of voice, and (`pitch`) median F0 and spread.

        Every clip, an array or a Waveform too, is raised to a common volume and freed of silence. `names`: what errors
        call the clips that are no paths. Raises CloningError for no clip, for one that cannot be read, and for one with
        less than `min_seconds` of voice.
        """
        sources = _listed(clips)
        names = names or [str(clip) if isinstance(clip, str | Path) else "the reference" for clip in sources]
        rate, target = self.config.mel.sample_rate, self.config.target_dbfs
        whole = [read(clip, sample_rate=rate) for clip in sources]
        voiced = [
            raise_and_trim(wav, target, min_seconds=min_seconds, name=name)
            for wav, name in zip(whole, names, strict=True)
        ]
        embedding = self.embed_speaker(voiced)
        tracks = [pitch_track(wav.samples, rate, rate // 80) for wav in voiced] if pitch else []
        median, spread = (pitch_statistics(np.concatenate(tracks)) if tracks else None) or (None, None)
        return Voice(
            embedding,
            self.fingerprint,
            pitch=median,
            spread=spread,
            level=dbfs(np.concatenate([wav.samples for wav in whole])),
            seconds=sum(wav.seconds for wav in voiced),
        )

    def embed_speaker(self, clips: Sequence[Source]) -> np.ndarray:
        """Mean of the embeddings of several clips of one speaker, brought to length 1: (D,)"""
        return unit(self.embed_batch(clips).mean(axis=0))

    def embed_utterance(self, clip: Source, *, partials: bool = True) -> np.ndarray:
        """(D,): the mean over overlapping windows, or (`partials=False`) one pass over the whole."""
        return self.embed_batch([clip], partials=partials)[0]

    def embed_batch(self, clips: Sequence[Source], *, partials: bool = True) -> np.ndarray:
        """(B, D): every clip by itself; the windows of all clips share passes through the network.

        Raises CloningError when there is nothing to embed, and for samples that are not finite or of an odd type.
        """
        if len(clips) == 0:
            raise CloningError("no clip to embed: give at least one recording of the speaker")
        if partials:
            return np.stack([u.embedding for u in self.embed_windows(clips)])
        return self.embed_mels([self.mel(self._samples(clip)) for clip in clips])

    def embed_windows(self, clips: Sequence[Source], windows: PartialConfig | None = None) -> list[UtteranceEmbedding]:
        """Embeddings with those of their windows; `windows` other than the model's own may be given."""
        windows = windows or self.config.partials
        pieces, slices = [], []
        for clip in clips:
            samples = self._samples(clip)
            wav_slices, mel_slices = partial_slices(len(samples), windows, self.config.mel.hop_length)
            slices.append(wav_slices)
            whole, missing = self.config.mel.frames(len(samples)), wav_slices[-1][1] - len(samples)
            mel = self.mel(np.pad(samples, (0, missing)) if missing > 0 else samples)
            pieces += [mel[:, start : self.window_end(stop, whole)] for start, stop in mel_slices]
        rows = iter(self.embed_mels(pieces))
        found = [np.stack([next(rows) for _ in places]) for places in slices]
        return [
            UtteranceEmbedding(unit(partials.mean(axis=0)), partials, places)
            for partials, places in zip(found, slices, strict=True)
        ]

    def window_end(self, stop: int, frames: int) -> int:
        """Where the network stops to look in a window up to frame `stop` of an utterance of so many frames.

        The published network was trained on full windows and sees zeros past the end; ours see the end.
        """
        return stop if self.config.partials.pad else min(stop, frames)

    def mel(self, samples: np.ndarray) -> Tensor:
        """What the network sees of samples (T,): (M, F)"""
        wav = torch.from_numpy(np.ascontiguousarray(samples, np.float32)).to(self.device)
        with torch.inference_mode():
            return mel_spectrogram(wav, self.config.mel)

    def embed_mels(self, mels: Sequence[Tensor]) -> np.ndarray:
        """Mels (M, F), each of its own length, in one pass each over all of it -> (B, D) float32."""
        lengths = [mel.size(1) for mel in mels]
        embeddings = np.empty((len(mels), self.embedding_size), np.float32)
        for rows in _chunks(sorted(range(len(mels)), key=lambda i: lengths[i])):  # similar lengths share a pass
            longest = max(lengths[i] for i in rows)
            batch = torch.zeros(len(rows), self.config.mel.n_mels, longest, device=self.device)
            for row, i in enumerate(rows):
                batch[row, :, : lengths[i]] = mels[i]
            counts = None
            if any(lengths[i] < longest for i in rows):
                counts = torch.tensor([lengths[i] for i in rows], device=self.device)
            with torch.inference_mode():
                embeddings[rows] = self.network(batch, counts).float().cpu().numpy()
        if not np.isfinite(embeddings).all():
            raise CloningError("the encoder makes numbers that are not finite: its weights are damaged, take others")
        return embeddings

    def embed_in_steps(self, samples: np.ndarray, first: int, stop: int) -> Generator[None, None, np.ndarray]:
        """The embedding (D,) of frames first .. stop of samples (T,), a few milliseconds' work a step.

        Returns it at the last step. Equal to `embed_mels` but for rounding.
        """
        steps = self.network.in_steps(self.mel(samples)[None, :, first:stop])
        while True:
            with torch.inference_mode():
                try:
                    next(steps)
                except StopIteration as end:
                    return end.value[0].float().cpu().numpy()
            yield

    def _samples(self, clip: Source) -> np.ndarray:
        rate = self.config.mel.sample_rate
        if is_array(clip):
            clip = Waveform.from_array(clip, rate)
        elif isinstance(clip, Waveform):
            require_finite(clip.samples, clip.sample_rate, "the waveform")
        else:
            clip = self.preprocess(clip)
        if len(clip) == 0:
            raise CloningError("nothing to embed: the clip holds no samples (after cutting silence)")
        return clip.samples if clip.sample_rate == rate else resample(clip.samples, clip.sample_rate, rate)


def _chunks(items: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(items), WINDOWS_AT_ONCE):
        yield items[start : start + WINDOWS_AT_ONCE]


def _listed(clips: Source | Sequence[Source]) -> list[Source]:
    return list(clips) if isinstance(clips, list | tuple) else [cast(Source, clips)]
