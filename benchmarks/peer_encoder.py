"""The encoder's parts of `peer.py`: from a file to an embedding, a folder of recordings, a step of training."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RATE = 16_000
SPEAKERS, UTTERANCES, FRAMES = 64, 10, 160  # of a published batch
FOLDER_CLIPS = 200  # of about 9 s, the mean of LibriSpeech
FILES = 5  # that encode reads one after the other
# part -> the most rounds. encode: files to their embeddings, published weights on both sides; encode-default: our
# default weights against the published ones; folder: a corpus preprocessed by the scripts, their start included
ENCODER_PARTS = {"encode": 99, "encode-default": 99, "folder": 3, "ge2e-step": 2}
Job = Callable[[float], int]


def our_encoder_jobs(weights: Path, clip: Path) -> dict[str, Job]:
    """What our code does, by part; `weights` holds the published `encoder.pt`."""
    from encoder.inference import SpeakerEncoder

    published = functools.cache(lambda: SpeakerEncoder.load(weights / "encoder.pt"))
    default = functools.cache(lambda: SpeakerEncoder.load(ROOT / "saved_models" / "default" / "encoder.safetensors"))

    def folder(seconds: float) -> int:
        with tempfile.TemporaryDirectory() as out:
            script = [sys.executable, str(ROOT / "encoder_preprocess.py"), str(corpus(weights, clip, seconds))]
            subprocess.run([*script, "--out", out], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return FOLDER_CLIPS

    step = functools.cache(_our_step)
    return {
        "encode": lambda seconds: len([published().embed_utterance(cut(weights, clip, seconds)) for _ in range(FILES)]),
        "encode-default": lambda seconds: len(
            [default().embed_utterance(cut(weights, clip, seconds)) for _ in range(FILES)]
        ),
        "folder": folder,
        "ge2e-step": lambda _: step()(),
    }


def _our_step() -> Callable[[], int]:
    import torch

    from encoder.config import EncoderConfig
    from encoder.loss import scale_gradient
    from encoder.model import build_network
    from encoder.train import ge2e_loss
    from utils.audio.mel import ENCODER_MEL, mel_spectrogram

    network = build_network(EncoderConfig())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    hop = ENCODER_MEL.hop_length
    wav = 0.05 * torch.randn(SPEAKERS * UTTERANCES, (FRAMES - 1) * hop)

    def step() -> int:
        embeddings = network(mel_spectrogram(wav, ENCODER_MEL)).unflatten(0, (SPEAKERS, UTTERANCES))
        weight, bias = scale_gradient(network.similarity_weight), scale_gradient(network.similarity_bias)
        ge2e_loss(embeddings, weight, bias)[0].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 3)
        optimizer.step()
        optimizer.zero_grad()
        return len(wav)

    return step


def their_encoder_jobs(weights: Path, clip: Path, peer: Path) -> dict[str, Job]:
    """What the checkout in `sys.path` does, by part."""
    inference = importlib.import_module("encoder.inference")
    inference.load_model(weights / "encoder.pt", "cpu")

    def encode(seconds: float) -> int:
        wavs = (inference.preprocess_wav(cut(weights, clip, seconds)) for _ in range(FILES))
        return len([inference.embed_utterance(wav) for wav in wavs])

    def folder(seconds: float) -> int:
        with tempfile.TemporaryDirectory() as out:
            script = [sys.executable, str(ROOT / "benchmarks" / "peer.py"), "--serve", "folder", "--peer", str(peer)]
            script += ["--weights", str(corpus(weights, clip, seconds)), "--clip", out]
            subprocess.run(script, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return FOLDER_CLIPS

    step = functools.cache(_their_step)
    return {"encode": encode, "encode-default": encode, "folder": folder, "ge2e-step": lambda _: step()()}


def their_folder(corpora: Path, out: Path) -> None:
    """What the checkout's encoder_preprocess.py does, in its four processes."""
    multiprocessing.set_start_method("fork")  # otherwise its helpers lack the names that were restored
    importlib.import_module("encoder.preprocess").preprocess_librispeech(corpora, out)


def _their_step() -> Callable[[], int]:
    import torch

    model = importlib.import_module("encoder.model").SpeakerEncoder(torch.device("cpu"), torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    frames = torch.rand(SPEAKERS * UTTERANCES, FRAMES, 40)

    def step() -> int:
        model.loss(model(frames).view(SPEAKERS, UTTERANCES, -1))[0].backward()
        model.do_gradient_ops()
        optimizer.step()
        model.zero_grad()
        return len(frames)

    return step


def cut(weights: Path, clip: Path, seconds: float) -> Path:
    """The clip, repeated to the length, as a file that both sides read."""
    import soundfile

    path = weights / f"clip_{seconds:g}.wav"
    if not path.is_file():
        soundfile.write(path, np.resize(soundfile.read(clip, dtype="float32")[0], round(seconds * RATE)), RATE)
    return path


def corpus(weights: Path, clip: Path, seconds: float) -> Path:
    """A folder laid out as LibriSpeech is: the clip from other starts and at other levels, in FLAC."""
    import soundfile

    root = weights / "corpora"
    if not root.is_dir():
        samples, random = np.resize(soundfile.read(clip, dtype="float32")[0], round(seconds * RATE)), np.random
        for i in range(FOLDER_CLIPS):
            place = root / "LibriSpeech" / "train-other-500" / f"{100 + i % 20}" / "1000"
            place.mkdir(parents=True, exist_ok=True)
            generator = random.default_rng(i)
            played = np.roll(samples, generator.integers(len(samples))) * generator.uniform(0.1, 1)
            soundfile.write(place / f"{100 + i % 20}-1000-{i:04d}.flac", played, RATE)
    return root
