"""Give a synthesizer's set the embeddings of another encoder, in seconds: all else in it stays as it is."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from encoder.check import check_set
from encoder.inference import SpeakerEncoder
from synthesizer.data.preprocess import speaker_means
from utils.audio.io import from_pcm16
from utils.data.manifest import Arrays, Manifest, Utterance, read_manifest, write_lines
from utils.device import pick_device
from utils.errors import CloningError
from utils.files import atomic_path, user_path
from utils.scripts import add_device, exit_code

AT_ONCE = 256  # clips

EPILOG = """
example, after an encoder has been trained:
  python synthesizer_reembed.py data/synthesizer --encoder runs/encoder/best.safetensors --speech data/encoder
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=user_path, help="a folder that synthesizer_preprocess.py wrote")
    parser.add_argument(
        "--encoder", type=user_path, required=True, help="weights of a speaker encoder, ours or published"
    )
    parser.add_argument(
        "--speech",
        type=user_path,
        required=True,
        metavar="DIR",
        help="a folder that encoder_preprocess.py wrote, same clips",
    )
    add_device(parser)
    return parser


def embed(encoder: SpeakerEncoder, speech: Manifest, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """The embedding (D,) float32 of each of the clips `ids`; CloningError where `speech` lacks one, or is of another
    sample rate or level than the encoder wants.
    """
    check_set(speech, encoder.config, "run synthesizer_preprocess.py again with that encoder")
    clips = {u.id: u for u in speech.utterances}
    if missing := [id for id in ids if id not in clips]:
        raise CloningError(
            f"{speech.root}: {len(missing)} of {len(ids)} clips are not in it, such as {missing[0]}: run "
            "encoder_preprocess.py on the same corpora, or synthesizer_preprocess.py again with the new encoder"
        )
    arrays = Arrays(speech.root)
    found: dict[str, np.ndarray] = {}
    order = sorted(ids, key=lambda id: clips[id].seconds)  # those of a length share a pass
    for start in tqdm(range(0, len(order), AT_ONCE), desc="embeddings", disable=None):
        some = order[start : start + AT_ONCE]
        wavs = [from_pcm16(arrays.read(clips[id], "wav")) for id in some]
        found.update(zip(some, encoder.embed_batch(wavs), strict=True))
    return found


def rewrite(data: Manifest, embeddings: dict[str, np.ndarray], fingerprint: str) -> None:
    """Put embeddings into the set's shards and its means of speakers, the encoder's fingerprint into its headers.

    All of it is written beside the set first: one that cannot be written whole stays as it was.
    """
    by_shard: dict[str, list[Utterance]] = {}
    for utterance in data.utterances:
        by_shard.setdefault(utterance.shard, []).append(utterance)
    with ExitStack() as stack:
        for shard, utterances in tqdm(by_shard.items(), desc="shards", disable=None):
            arrays = load_file(data.root / shard)
            arrays.update({f"{u.id}/embed": embeddings[u.id].astype(np.float32) for u in utterances})
            save_file(arrays, stack.enter_context(atomic_path(data.root / shard)))
        means = speaker_means((u.speaker, embeddings[u.id]) for u in data.utterances)
        save_file(means, stack.enter_context(atomic_path(data.root / "speakers.safetensors")))
        settings = data.root / "settings.json"
        changed = json.loads(settings.read_text(encoding="utf-8")) | {"encoder": fingerprint}
        stack.enter_context(atomic_path(settings)).write_text(json.dumps(changed, indent=1) + "\n", encoding="utf-8")
        manifest = data.root / "manifest.jsonl"
        rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").split("\n") if line]
        rows[0]["encoder"] = fingerprint
        write_lines(stack.enter_context(atomic_path(manifest)), rows)


def run(args: argparse.Namespace) -> None:
    """Embed the clips of a set and write them into it."""
    device = pick_device(args.device)
    data = read_manifest(args.data, "synthesizer")
    encoder = SpeakerEncoder.load(args.encoder, device)
    found = embed(encoder, read_manifest(args.speech, "encoder"), [u.id for u in data.utterances])
    rewrite(data, found, encoder.fingerprint)
    print(f"{args.data}: {len(found)} clips have embeddings of {encoder.fingerprint}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
