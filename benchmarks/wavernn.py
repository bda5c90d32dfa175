"""WaveRNN's sample loop in all its forms: how fast each is, and what int8 costs on given weights.

    python benchmarks/wavernn.py [--threads 2] [--seconds 10] [--repeats 5]
    python benchmarks/wavernn.py --weights vocoder.safetensors --clips A.wav B.wav ...

Speed is that of `Vocoder.vocode`, on random weights of the published size where none are given; all forms in turn, so
that load from elsewhere meets each of them. Sparse: blocks of 16 rows x 1 column, left out at random. The price of int8
is measured along what the int8 loop itself makes of the clips' mels: how far its distributions are from those of the
module in float32, and how far from the clip the spectra of both loops are, with two seeds each.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import utils  # noqa: E402, F401  # isort: skip (before torch: how its threads wait)
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from evaluation.metrics.signals import stft_distance  # noqa: E402
from utils.audio.io import read  # noqa: E402
from utils.audio.mel import SYNTHESIZER_MEL, mel_spectrogram  # noqa: E402
from utils.errors import CloningError  # noqa: E402
from utils.scripts import exit_code  # noqa: E402
from vocoder.config import WaveRNNConfig  # noqa: E402
from vocoder.inference import Vocoder  # noqa: E402
from vocoder.wavernn.generate import Generation, best_kernel, generate, uniform_draws  # noqa: E402
from vocoder.wavernn.native import NativeLoop, Packed  # noqa: E402
from vocoder.wavernn.network import WaveRNN  # noqa: E402
from vocoder.wavernn.pruning import pruned_columns, smallest_blocks_out  # noqa: E402
from vocoder.wavernn.quantize import label_to_float  # noqa: E402
from vocoder.wavernn.sample_loop import Weights  # noqa: E402

UNFOLDED_S, TORCH_S = 1.0, 0.25  # of audio
SPARSITIES = (0.9, 0.95)
RATE = SYNTHESIZER_MEL.sample_rate


def model_of(path: Path | None) -> WaveRNN:
    """The given weights, or random ones of the published size."""
    if path is None:
        torch.manual_seed(0)
        model = WaveRNN(WaveRNNConfig(), SYNTHESIZER_MEL.n_mels)
    else:
        vocoder = Vocoder.load(path)
        if vocoder.name != "wavernn":
            raise CloningError(f"{path}: a {vocoder.name}; this benchmark is for WaveRNN")
        model = vocoder.model
    return model.eval().requires_grad_(False)


def pruned(model: WaveRNN, sparsity: float) -> WaveRNN:
    """A copy with the smallest blocks of every recurrent matrix left out."""
    model = copy.deepcopy(model)
    parameters = dict(model.named_parameters())
    for name, columns in pruned_columns(model.config).items():
        weight = parameters[name][:, :columns]
        weight *= smallest_blocks_out(weight, 16, sparsity)
    return model


def speed(model: WaveRNN, args: argparse.Namespace) -> None:
    """Seconds of computing for a second of audio: every form in turn, `--repeats` times over."""
    native = best_kernel() != "torch"
    jobs = {"torch, one stream, one thread": (model, Generation(folded=False, kernel="torch"), TORCH_S, 1)}
    for kernel in ("int8", "fp32") if native else ():
        jobs[f"{kernel}, folded, {args.threads} threads"] = model, Generation(kernel=kernel), args.seconds, args.threads
        jobs[f"{kernel}, one stream, one thread"] = model, Generation(folded=False, kernel=kernel), UNFOLDED_S, 1
    for sparsity in SPARSITIES if native else ():
        sparse = pruned(model, sparsity)
        jobs[f"{sparsity:.0%} zeros, one stream, one thread"] = sparse, Generation(folded=False), UNFOLDED_S, 1
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for network, how, _, threads in jobs.values():
        timed(network, how, 0.05, threads)  # compiles
    for _ in range(args.repeats):
        for name, (network, how, seconds, threads) in jobs.items():
            taken[name].append(timed(network, how, seconds, threads) / seconds)
    print(f"{'':40s}{'audio, s':>10s}{'real-time factor':>18s}   lowest to highest")
    for name, factors in taken.items():
        print(f"{name:40s}{jobs[name][2]:10g}{np.median(factors):18.4f}   {min(factors):.4f} to {max(factors):.4f}")


def timed(model: WaveRNN, how: Generation, seconds: float, threads: int) -> float:
    """Seconds that it takes to make `seconds` of audio."""
    torch.set_num_threads(threads)
    n_frames = round(seconds * RATE / SYNTHESIZER_MEL.hop_length) + 1
    mel = torch.from_numpy(np.random.default_rng(0).uniform(-4, 4, (model.n_mels, n_frames)).astype(np.float32))
    started = time.perf_counter()
    generate(model, mel, seed=0, how=how)
    return time.perf_counter() - started


@torch.inference_mode()
def price(model: WaveRNN, clip: Path, seconds: float) -> tuple[float, ...]:
    """Of int8 on a clip: divergence in nats, share of samples where the likeliest label is another one, STFT distances
    to the clip of float32 (two seeds) and int8 (two seeds)."""
    samples = read(clip, sample_rate=RATE).samples[: round(seconds * RATE)]
    samples = samples * (0.9 / max(float(np.abs(samples).max()), 1e-5))
    mel = mel_spectrogram(torch.from_numpy(samples), SYNTHESIZER_MEL)
    padded = F.pad(mel[None] * model.config.mel_scale, (model.config.pad, model.config.pad), value=-1.0)
    weights = Weights.of(model)
    frames = weights.frames(padded[0], model.upsample.resnet(padded)[0])
    packed, steps = Packed(weights, "int8"), mel.size(1) * weights.hop_length
    logits = np.empty((1, steps, packed.model.outputs), np.float32)
    labels = NativeLoop(packed, 1).run(frames, [0], uniform_draws(0, 0, "raw")(steps)[None], logits)
    before = F.pad(label_to_float(labels[:, :-1], weights.levels), (1, 0))
    exact = model(before, padded)[0].log_softmax(dim=1)
    ours = torch.from_numpy(logits[0, :, : weights.levels]).log_softmax(dim=1)
    divergence = (exact.exp() * (exact - ours)).sum(dim=1).mean()
    changed = (exact.argmax(dim=1) != ours.argmax(dim=1)).float().mean()
    distances = [
        stft_distance(samples, generate(model, mel, seed=seed, how=Generation(kernel=kernel)))
        for kernel in ("fp32", "int8")
        for seed in (1, 2)
    ]
    return float(divergence), float(changed), *distances


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of a WaveRNN, ours or published")
    parser.add_argument("--clips", type=Path, nargs="+", default=[], metavar="WAV", help="measure the price of int8")
    parser.add_argument("--seconds", type=float, default=10.0, help="audio of a folded run, and at most of a clip")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def run(args: argparse.Namespace) -> None:
    """Time each setting and print a table."""
    model = model_of(args.weights)
    if not args.clips:
        speed(model, args)
        return
    if best_kernel() == "torch":
        raise CloningError("no native kernel here: there is no int8 to measure")
    print("divergence, nats   other label   STFT distance to the clip, fp32 twice   int8 twice")
    rows = [price(model, clip, args.seconds) for clip in args.clips]
    for row, name in [*zip(rows, (clip.name for clip in args.clips), strict=True), (np.mean(rows, axis=0), "mean")]:
        print("{:16.5f}{:14.2%}{:24.4f}{:9.4f}{:18.4f}{:9.4f}   ".format(*row) + name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    args = build_parser().parse_args(argv)
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
