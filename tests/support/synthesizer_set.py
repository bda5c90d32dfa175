"""A small set, a corpus and an alignment for tests of the synthesizers, and the least network that learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch

from synthesizer.config import ParallelConfig, SamplingConfig, SynthesizerConfig
from synthesizer.data.preprocess import write_speaker_means
from synthesizer.models.parallel import Parallel
from synthesizer.text.processor import TextProcessor
from synthesizer.training.task import SpeakerEmbeddings
from utils.audio.mel import SYNTHESIZER_MEL
from utils.data.manifest import Utterance, write_manifest, write_shard
from utils.training.sampling import rng

RATE = 16000
MEL = {**SYNTHESIZER_MEL.__dict__, "n_mels": 20}
SPEAKER_SIZE = 6
SIZES = {"channels": 24, "encoder_blocks": 1, "decoder_blocks": 1, "flow_blocks": 1, "flow_channels": 16, "kernel": 5}
VOICE = {**SIZES, "voice_statistics": True, "prompt_tokens": 4, "prompt_width": 8, "speaker_dropout": 0.1}
ROW = {
    "id": "a",
    "words": [["", 0, 20], ["see", 20, 30], ["it", 50, 30], ["", 80, 60], ["now", 140, 50], ["", 190, 10]],
    "phones": [["SIL", 0, 20], ["S", 20, 10], ["IY", 31, 19], ["IH", 49, 10], ["T", 60, 17], ["SIL", 77, 3],
               ["SIL", 80, 60], ["N", 140, 20], ["AW", 160, 30], ["SIL", 190, 10]],
}  # fmt: skip


def make_set(root: Path, count: int = 10, durations: bool = True, emotions: Sequence[str | None] = (None,)) -> Path:
    """A made-up set in which each phone has its own mel: something that can be learned."""
    draw = np.random.default_rng(0)
    text = TextProcessor("phonemes")
    phones = text.table.encode(["AA", "B", "S", "IY"], end=False)
    space = text.table.ids[" "]
    looks = draw.normal(-1, 1, (len(text), 20)).astype(np.float32)
    utterances, arrays = [], {}
    for i in range(count):
        said = draw.choice(phones, 4 + i % 3).tolist()
        tokens = [text.table.ids["SIL"], *said[:2], space, *said[2:], text.table.ids["SIL"], 1]
        lengths = draw.integers(3, 9, len(tokens))
        lengths[[3, -1]] = 0
        mel = np.repeat(looks[tokens], lengths, axis=0)
        name = f"toy/{i:02d}"
        fields = {
            "tokens": np.array(tokens, np.int16),
            "mel": mel.astype(np.float16),
            "pitch": np.zeros(len(mel), np.float16),
            "embed": draw.random(SPEAKER_SIZE, dtype=np.float32) / 2,
        }
        if durations:
            fields["durations"] = lengths.astype(np.int16)
            fields["marks"] = np.zeros(len(tokens), np.int16)
            fields["marks"][-2] = text.table.ids["?" if i % 2 else "."]
        arrays |= {f"{name}/{field}": value for field, value in fields.items()}
        split = "validation" if i < 2 else "train"
        utterances.append(
            Utterance(
                id=name,
                speaker=f"toy-{split}{i % 2}",
                seconds=len(mel) / 80,
                frames=len(mel),
                text="a",
                emotion=emotions[i // 2 % len(emotions)],
                split=split,
                shard="shards/0.safetensors",
                extra={"tokens": len(tokens), "characters_per_second": 12.0},
            )
        )
    write_shard(root, "0", utterances, arrays, [])
    header = {"mel": MEL, "text": text.describe(), "marks": "pauses", "durations": durations, "clauses": durations}
    header["encoder"] = "toy"
    write_speaker_means(write_manifest(root, "synthesizer", utterances, [], **header))
    return root


def make_corpus(root: Path) -> Path:
    """Two speakers of two noises each, all with one text, and a file that is none."""
    for speaker in ("ann", "ben"):
        folder = root / "corpus" / speaker
        folder.mkdir(parents=True)
        for i in range(2):
            sound = rng(i).standard_normal(2 * RATE).astype(np.float32) * 0.1
            soundfile.write(folder / f"{speaker}{i}.wav", sound, RATE)
            (folder / f"{speaker}{i}.txt").write_text("see it now", encoding="utf-8")
    (root / "corpus" / "ann" / "bad.wav").write_bytes(b"RIFF0000WAVEjunk")
    (root / "corpus" / "ann" / "bad.txt").write_text("see it now", encoding="utf-8")
    return root / "corpus"


def small(sampling: SamplingConfig | None = None, **changes) -> Parallel:
    """A parallel synthesizer of 50 symbols and 20 channels."""
    torch.manual_seed(0)
    config = ParallelConfig(**{**SIZES, **changes})
    whole = SynthesizerConfig("parallel", SPEAKER_SIZE, parallel=config, sampling=sampling or SamplingConfig())
    return Parallel(whole, 50, 20)


def hear(mel: torch.Tensor, lengths: torch.Tensor) -> SpeakerEmbeddings:
    """Stands for speaker encoders: mel (B, M, F), lengths (B,) -> embeddings (B, D)."""
    inside = torch.arange(mel.shape[2]) < lengths[:, None]
    mean = (mel * inside[:, None]).sum(dim=2) / lengths[:, None]
    return SpeakerEmbeddings(torch.nn.functional.normalize(mean[:, :SPEAKER_SIZE], dim=1))
