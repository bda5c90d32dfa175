"""A preprocessed set through a trained synthesizer with teacher forcing: what a vocoder can be fine-tuned on."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from synthesizer.data.dataset import KIND
from synthesizer.features import prosody
from synthesizer.inference import Synthesizer
from utils.audio.io import Waveform, from_pcm16
from utils.audio.mel import MelConfig
from utils.config import from_dict
from utils.data.corpora import Clip
from utils.data.manifest import Arrays, Manifest, Utterance, read_manifest
from utils.errors import CloningError, MissingError
from utils.voice import Voice


@dataclasses.dataclass
class TeacherForcing:
    """Called with one of `clips`: the samples (T,) that the synthesizer learned from, and its mel (F, M) of them.

    The voice is described, for a synthesizer that uses more than its embedding, by the speaker's next utterance of the
    set, as in training; a speaker's only utterance has its embedding alone. The mel of an utterance depends on the set
    and the checkpoint alone. Picklable: in a worker process, the set and the weights are opened once.
    """

    root: Path  # a set made by synthesizer_preprocess.py, with its audio
    checkpoint: Path

    def __getstate__(self) -> dict[str, Path]:
        return {"root": self.root, "checkpoint": self.checkpoint}

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest of the set."""
        return read_manifest(self.root, KIND)

    @cached_property
    def synthesizer(self) -> Synthesizer:
        """The synthesizer of the checkpoint, on the CPU."""
        return Synthesizer.load(self.checkpoint)

    @cached_property
    def _utterances(self) -> dict[str, Utterance]:
        return {u.id: u for u in self.manifest.utterances}

    @cached_property
    def _next_of_speaker(self) -> dict[str, Utterance]:
        """Another utterance of the same speaker, by id, for those with several."""
        of_speaker: dict[str, list[Utterance]] = {}
        for utterance in self.manifest.utterances:
            of_speaker.setdefault(utterance.speaker, []).append(utterance)
        own = [found for found in of_speaker.values() if len(found) > 1]
        return {a.id: b for found in own for a, b in zip(found, [*found[1:], found[0]], strict=True)}

    @cached_property
    def _arrays(self) -> Arrays:
        return Arrays(self.root)

    @property
    def clips(self) -> list[Clip]:
        """The utterances of the set."""
        return [
            Clip(u.id, u.speaker, self.root / u.path, u.text, u.emotion, source=u.path)
            for u in self.manifest.utterances
        ]

    def check(self) -> None:
        """Raises CloningError when the set holds no audio, or was not made for this synthesizer."""
        header, model = self.manifest.header, self.synthesizer
        if not header.get("audio"):
            raise MissingError(f"{self.root}: holds no waveforms: make the set anew and keep them", "waveforms")
        if different := model.mel.differences(from_dict(MelConfig, header.get("mel"), "mel")):
            raise CloningError(
                f"{self.checkpoint}: its mel is not that of {self.root} ({different[0]}): preprocess again"
            )
        if tuple(header["text"]["symbols"]) != model.symbols:
            raise MissingError(
                f"{self.checkpoint}: reads {model.text.config.symbol_set} ({len(model.symbols)} symbols), {self.root} "
                f"holds {header['text']['symbol_set']} ({len(header['text']['symbols'])}): make the set anew "
                "with the symbols of the synthesizer",
                "symbols",
            )
        if model.encoder_fingerprint not in ("", header.get("encoder")):
            raise CloningError(
                f"{self.checkpoint}: learned voices as encoder {model.encoder_fingerprint} embeds them, {self.root} "
                f"holds those of {header.get('encoder')}: preprocess with the encoder that it was trained with"
            )
        if model.network.needs_durations and not header.get("durations"):
            raise MissingError(
                f"{self.root}: holds no durations, which the {model.name} synthesizer needs: make the set anew with "
                "phone times, and keep its audio",
                "alignments",
            )

    def split(self, speaker: str) -> str:
        """That of the synthesizer's set: who was held out from it stays held out."""
        if speaker not in self._splits:
            raise CloningError(f"{speaker} is not of {self.root}: the folder holds another set; choose another")
        return self._splits[speaker]

    @cached_property
    def _splits(self) -> dict[str, str]:
        return {u.speaker: u.split for u in self.manifest.utterances}

    def __call__(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        def read(name: str) -> np.ndarray:
            return self._arrays.read(self._utterances[clip.id], name)

        mel = read("mel").astype(np.float32)  # (F, M)
        durations = spoken = None
        if self.manifest.header.get("durations"):
            durations = read("durations").astype(np.int64)
            spoken = prosody(mel, read("pitch"), durations)
        made = self.synthesizer.teacher_forced(
            read("tokens"), mel.T, self.voice(clip), durations=durations, prosody=spoken, seed=seed_of(clip.id)
        )
        return from_pcm16(read("wav")), made.T

    def voice(self, clip: Clip) -> Voice:
        """The voice of one of `clips`, with what the synthesizer uses of it beside the embedding."""
        embed = self._arrays.read(self._utterances[clip.id], "embed")
        voice, other = Voice(embed / np.linalg.norm(embed)), self._next_of_speaker.get(clip.id)
        if other is None or not self.synthesizer.network.uses_voice_statistics:
            return voice
        samples = from_pcm16(self._arrays.read(other, "wav"))
        return self.synthesizer.describe_voice(voice, [Waveform(samples, self.synthesizer.network_mel.sample_rate)])


def seed_of(name: str) -> int:
    """A seed (31 bits) from an utterance's id: the same on every machine and in every order."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >> 1
