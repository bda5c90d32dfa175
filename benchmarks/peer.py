"""Times a checkout of Real-Time-Voice-Cloning, "the peer", beside this toolkit: same inputs and weights, in turn.

    python benchmarks/peer.py --peer ../Real-Time-Voice-Cloning [--threads 1] [--repeats 5] [--json ratios.json]
    python benchmarks/peer.py --peer ../Real-Time-Voice-Cloning --only wavernn-folded --seconds 1 --repeats 1
    python benchmarks/peer.py --peer ../Real-Time-Voice-Cloning --only encode encode-default folder ge2e-step
    python benchmarks/peer.py --peer ../Real-Time-Voice-Cloning --only wavernn-step wavernn-step-bf16 --repeats 1

Each side runs in a process of its own (`peer_sides.py`). The peer needs names that numpy, scipy and librosa have
dropped since it was written. They are restored in its process before it is imported; no file of its checkout is
changed. Weights are random ones of the published size, made by the peer and read by both (the published encoder where
it is found). Their speech means nothing, but both sides take the same number of steps.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peer_encoder import ENCODER_PARTS, FILES
from peer_sides import RATE, ROOT, serve
from peer_wavernn import TRAINING_PARTS
from tqdm import tqdm

EMBEDDED_S = 5.0
UNFOLDED_S = 0.5  # at most: it takes one step a sample
SHORTEST_S = 0.3  # the peer's WaveRNN fades out over 20 frames and fails where there are fewer
# part -> the most rounds: some take the peer a minute
PARTS = {"import": 3, "load": 3, "preprocess": 99, "embed": 99, "tacotron": 99}
SLOW = ("wavernn-folded", "wavernn-unfolded", "whole")
PARTS |= dict.fromkeys(SLOW, 3) | ENCODER_PARTS | TRAINING_PARTS
LIGHT = {*ENCODER_PARTS, *TRAINING_PARTS}  # need no synthesizer and no vocoder loaded
FOLDER_CLIP_S = 9.0
WARM_UP = ("preprocess", "embed", "tacotron", "wavernn-unfolded")


class Side:
    """A serving process; `ask` times one part in it, "import" and "load" in a fresh one."""

    def __init__(self, name: str, args: argparse.Namespace, weights: Path) -> None:
        self.name = name
        self._again = lambda: Side(name, args, weights)
        self._process = subprocess.Popen(
            [*command(name, args, weights), "--threads", str(args.threads), "--clip", str(args.clip), *flags(args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": str(args.threads)},
            encoding="utf-8",
        )
        self._started = self._reply()

    def ask(self, part: str, seconds: float) -> float:
        """Seconds that the part takes in this process."""
        if part in self._started:
            fresh = self._again()
            fresh.close()
            return fresh._started[part]
        self._process.stdin.write(json.dumps({"part": part, "seconds": seconds}) + "\n")
        self._process.stdin.flush()
        return self._reply()["taken"]

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()

    def _reply(self) -> dict[str, float]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.name} stopped with code {self._process.wait()}; its last words are above")
        return json.loads(line)


def command(name: str, args: argparse.Namespace, weights: Path) -> list[str]:
    """The command of a serving process."""
    script = [sys.executable, str(Path(__file__).resolve()), "--serve", name]
    return [*script, "--weights", str(weights), "--peer", str(args.peer)]


def flags(args: argparse.Namespace) -> list[str]:
    """Flags that both sides get."""
    found = ["--cpu"] if args.cpu else []
    return [*found, "--light"] if args.only and set(args.only) <= LIGHT else found


def compare(sides: list[Side], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every chosen part in turn on both sides; each row of the table is printed as soon as it is known."""
    wanted = [part for part in PARTS if not args.only or part in args.only]
    lengths = {"import": 0, "load": 0, "preprocess": 0, "embed": EMBEDDED_S}
    lengths |= {
        "encode": EMBEDDED_S,
        "encode-default": EMBEDDED_S,
        "folder": FOLDER_CLIP_S,
        "ge2e-step": 0,
        **dict.fromkeys(TRAINING_PARTS, 0),
    }
    lengths["wavernn-unfolded"] = min(UNFOLDED_S, args.seconds)
    rounds = {part: max(1, min(args.repeats, PARTS[part])) for part in wanted}
    for side in sides:  # kernels and lazy imports: no round is charged for them
        for part in warm_up(wanted):
            side.ask(part, EMBEDDED_S if part.startswith("e") else SHORTEST_S)
    results: dict[str, dict[str, Any]] = {}
    print(f"{'':28s}{'ours, s':>10s}{'peer, s':>10s}{'times faster':>14s}   lowest to highest", flush=True)
    with tqdm(total=2 * sum(rounds.values()), disable=None, leave=False) as progress:
        for part in wanted:
            seconds = lengths.get(part, args.seconds)
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(rounds[part]):
                for side, taken in zip(sides, times, strict=True):
                    progress.set_postfix_str(f"{part}, {side.name}")
                    taken.append(side.ask(part, seconds))
                    progress.update()
            label = f"{part}, {seconds:g} s" if seconds else part
            label = f"{label} x {FILES}" if part.startswith("encode") else label
            results[label] = row(*times)
            progress.write(line(label, results[label]))
            sys.stdout.flush()
    return results


def warm_up(wanted: list[str]) -> list[str]:
    """What each side does before any round is charged."""
    encoder = [part for part in wanted if part.startswith("encode") or part == "ge2e-step"]
    if set(wanted) <= LIGHT:
        return encoder
    return [*(WARM_UP if set(wanted) & set(SLOW) else WARM_UP[:-1]), *encoder]


def row(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Times of both sides as medians and ratios."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    medians = float(np.median(ours)), float(np.median(theirs))
    return {
        "ours_s": ours,
        "peer_s": theirs,
        "ours_median_s": medians[0],
        "peer_median_s": medians[1],
        "times_faster": medians[1] / medians[0],
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
    }


def line(label: str, found: dict[str, Any]) -> str:
    """A row of the printed table."""
    spread = f"{found['lowest_ratio']:.2f} to {found['highest_ratio']:.2f} ({len(found['ours_s'])})"
    ours, theirs = found["ours_median_s"], found["peer_median_s"]
    return f"{label:28s}{ours:10.4f}{theirs:10.4f}{found['times_faster']:14.2f}   {spread}"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seconds", type=float, default=3.0, help="audio that Tacotron and WaveRNN make")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; at most 3 of the parts that take long")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu", action="store_true", help="count processor time: for machines that do other work too")
    parser.add_argument("--clip", type=Path, default=ROOT / "samples" / "austen_0870.wav", help="mono, 16 kHz")
    parser.add_argument(
        "--encoder", type=Path, metavar="PATH", help="published encoder.pt (default: where it is found)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--serve", choices=("ours", "peer", "weights", "folder"), help=argparse.SUPPRESS)
    parser.add_argument("--light", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    return parser


def run(args: argparse.Namespace) -> None:
    """Make weights, start both sides, compare, print."""
    from evaluation.judges.likeness import find_published_encoder
    from utils.errors import CloningError
    from utils.files import write_text

    if not (args.peer / "encoder" / "inference.py").is_file():
        raise CloningError(f"{args.peer}: no checkout of Real-Time-Voice-Cloning here")
    if args.seconds < SHORTEST_S:
        raise CloningError(f"--seconds {args.seconds:g}: the peer makes no less than {SHORTEST_S:g} s")
    check_clip(args.clip)
    encoder = args.encoder or find_published_encoder()
    if encoder and not encoder.is_file():
        raise CloningError(f"{encoder}: no such file")
    if importlib.util.find_spec("webrtcvad") is None:
        print("webrtcvad is not installed: the peer's preprocess looks for no silences and does less than ours")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        weights = Path(folder)
        if encoder:
            (weights / "encoder.pt").write_bytes(encoder.read_bytes())
        if not encoder or "--light" not in flags(args):
            subprocess.run(command("weights", args, weights), check=True)
        sides = []
        for name in ("ours", "peer"):
            sides.append(Side(name, args, weights))
            stack.callback(sides[-1].close)
        results = compare(sides, args)
    if args.json:
        write_text(args.json, json.dumps({"threads": args.threads, "results": results}, indent=1))


def check_clip(clip: Path) -> None:
    """CloningError unless both sides read the same samples."""
    import soundfile

    from utils.errors import CloningError

    if not clip.is_file():
        raise CloningError(f"{clip}: no such file")
    info = soundfile.info(clip)
    if (info.samplerate, info.channels) != (RATE, 1):
        raise CloningError(f"{clip}: {info.samplerate} Hz, {info.channels} channels; wanted: {RATE} Hz, mono")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, or serve one side of it."""
    args = build_parser().parse_args(argv)
    args.peer, args.clip = args.peer.resolve(), args.clip.resolve()
    if args.serve:
        serve(args)
        return 0
    sys.path.insert(0, str(ROOT))
    from utils.scripts import exit_code

    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
