"""A made-up set of six emotions, for tests: each moves the mel in its own way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.support.synthesizer_set import make_set
from utils.data.corpora import EMOTIONS
from utils.data.manifest import read_manifest, write_manifest


def make_emotional_set(root: Path, count: int = 16) -> Path:
    """`make_set` with the emotions in turn; one utterance has none of the six."""
    make_set(root, count)
    found = read_manifest(root)
    labeled = [
        dataclasses.replace(u, emotion=EMOTIONS[i % 6] if i != count - 1 else None, speaker=f"ravdess-{u.speaker[4:]}")
        for i, u in enumerate(found.utterances)
    ]
    header = {name: found.header[name] for name in ("mel", "text", "marks", "durations", "encoder")}
    rewritten = write_manifest(root, "synthesizer", labeled, [], **header)
    from synthesizer.data.preprocess import write_speaker_means

    write_speaker_means(rewritten)
    return root
