"""Times another checkout of the Real-Time-Voice-Cloning code beside ours: same inputs, same weights, in turn (A B A B).

    python benchmarks/peer.py --peer ../Real-Time-Voice-Cloning [--threads 1] [--repeats 5] [--json ratios.json]

Each side lives in a process of its own. The other code needs names that numpy, scipy and librosa dropped since it was
written; they are put back in its process before it is imported, and no file of its checkout is touched. Weights are
random ones of the published size, made by the other code and read by both (the published encoder where it is found).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TEXT = "If you hear the bell, leave the building at once and wait near the bridge."
RATE, HOP, MELS = 16_000, 200, 80  # of the published models
Job = Callable[[dict[str, Any]], dict[str, Any]]


# --- the two sides, each in its own process ---------------------------------------------------------------------------


def our_jobs(weights: Path, clip: Path) -> dict[str, Job]:
    """Loads our stages from the published-layout files in `weights`."""
    from encoder.inference import SpeakerEncoder
    from synthesizer.inference import Synthesizer
    from utils.audio import Waveform
    from vocoder.generate import Generation
    from vocoder.inference import Vocoder

    encoder = SpeakerEncoder.load(weights / "encoder.pt")
    synthesizer = Synthesizer.load(weights / "synthesizer.pt")
    folded = Vocoder.load(weights / "vocoder.pt")
    unfolded = Vocoder.load(weights / "vocoder.pt", generation=Generation(folded=False))

    def synthesize(speaker: np.ndarray) -> np.ndarray:
        return np.asarray(synthesizer.synthesize([TEXT], speaker, seed=0)[0].mel)

    def flow(_: dict[str, Any]) -> dict[str, Any]:
        speaker = encoder.embed_utterance(encoder.preprocess(clip))
        mel = synthesize(speaker)
        folded.vocode(mel, seed=0)
        return {"frames": mel.shape[1]}

    return {
        "preprocess": lambda job: {"samples": len(encoder.preprocess(clip))},
        "embed": lambda job: {"size": len(encoder.embed_utterance(Waveform(speech(clip, job["seconds"]), RATE)))},
        "synthesize": lambda job: {"frames": synthesize(unit_vector()).shape[1]},
        "vocode folded": lambda job: {"samples": len(folded.vocode(any_mel(job["seconds"]), seed=0))},
        "vocode unfolded": lambda job: {"samples": len(unfolded.vocode(any_mel(job["seconds"]), seed=0))},
        "whole flow": flow,
    }


def their_jobs(weights: Path, clip: Path, checkout: Path) -> dict[str, Job]:
    """Imports the checkout, with the missing names put back, and loads the same files."""
    sys.path.insert(0, str(checkout))
    restore_names()
    encoder = importlib.import_module("encoder.inference")
    synthesis = importlib.import_module("synthesizer.inference")
    text = importlib.import_module("synthesizer.utils.text")
    vocoder = importlib.import_module("vocoder.inference")
    import torch

    encoder.load_model(weights / "encoder.pt", "cpu")
    synthesizer = synthesis.Synthesizer(weights / "synthesizer.pt", verbose=False)
    synthesizer.load()
    vocoder.load_model(weights / "vocoder.pt", verbose=False)
    quiet = {"progress_callback": lambda *_: None}

    def synthesize(speaker: np.ndarray, frames: int) -> np.ndarray:
        symbols = torch.tensor([text.text_to_sequence(TEXT, ["english_cleaners"])])
        _, mel, _ = synthesizer._model.generate(symbols, torch.from_numpy(speaker)[None].float(), steps=frames)
        return mel.detach().numpy()[0]

    def flow(job: dict[str, Any]) -> dict[str, Any]:
        speaker = encoder.embed_utterance(encoder.preprocess_wav(clip))
        mel = synthesize(speaker, job["frames"])
        vocoder.infer_waveform(mel, **quiet)
        return {"frames": mel.shape[1]}

    def vocode(job: dict[str, Any], batched: bool) -> dict[str, Any]:
        return {"samples": len(vocoder.infer_waveform(any_mel(job["seconds"]), batched=batched, **quiet))}

    return {
        "preprocess": lambda job: {"samples": len(encoder.preprocess_wav(clip))},
        "embed": lambda job: {"size": len(encoder.embed_utterance(speech(clip, job["seconds"])))},
        "synthesize": lambda job: {"frames": synthesize(unit_vector(), job["frames"]).shape[1]},
        "vocode folded": lambda job: vocode(job, True),
        "vocode unfolded": lambda job: vocode(job, False),
        "whole flow": flow,
    }


def make_weights(weights: Path, checkout: Path) -> None:
    """Random weights of the published sizes, by the checkout's own classes; the stop token never fires."""
    sys.path.insert(0, str(checkout))
    restore_names()
    import torch

    torch.manual_seed(0)
    synthesis = importlib.import_module("synthesizer.inference")
    if not (weights / "encoder.pt").is_file():
        model = importlib.import_module("encoder.model").SpeakerEncoder(torch.device("cpu"), torch.device("cpu"))
        torch.save({"step": 1, "model_state": model.state_dict()}, weights / "encoder.pt")
    h = synthesis.hparams
    tacotron = synthesis.Tacotron(
        embed_dims=h.tts_embed_dims,
        num_chars=len(synthesis.symbols),
        encoder_dims=h.tts_encoder_dims,
        decoder_dims=h.tts_decoder_dims,
        n_mels=h.num_mels,
        fft_bins=h.num_mels,
        postnet_dims=h.tts_postnet_dims,
        encoder_K=h.tts_encoder_K,
        lstm_dims=h.tts_lstm_dims,
        postnet_K=h.tts_postnet_K,
        num_highways=h.tts_num_highways,
        dropout=h.tts_dropout,
        stop_threshold=h.tts_stop_threshold,
        speaker_embedding_size=h.speaker_embedding_size,
    )
    tacotron.r = 2
    state = tacotron.state_dict()
    state["decoder.stop_proj.weight"].zero_()
    state["decoder.stop_proj.bias"].fill_(-100)
    torch.save({"model_state": state}, weights / "synthesizer.pt")
    inference = importlib.import_module("vocoder.inference")
    hp = inference.hp
    network = inference.WaveRNN(
        rnn_dims=hp.voc_rnn_dims,
        fc_dims=hp.voc_fc_dims,
        bits=hp.bits,
        pad=hp.voc_pad,
        upsample_factors=hp.voc_upsample_factors,
        feat_dims=hp.num_mels,
        compute_dims=hp.voc_compute_dims,
        res_out_dims=hp.voc_res_out_dims,
        res_blocks=hp.voc_res_blocks,
        hop_length=hp.hop_length,
        sample_rate=hp.sample_rate,
        mode=hp.voc_mode,
    )
    torch.save({"model_state": network.state_dict()}, weights / "vocoder.pt")


def restore_names() -> None:
    """Put back what numpy 1.24, 2.0, scipy 1.15 and librosa 0.10 took away, in this process only."""
    for name, value in (("int", int), ("complex", complex), ("cumproduct", np.cumprod)):
        if name not in np.__dict__:
            setattr(np, name, value)
    try:
        importlib.import_module("scipy.ndimage.morphology")
    except ModuleNotFoundError:
        sys.modules["scipy.ndimage.morphology"] = importlib.import_module("scipy.ndimage")
    import librosa

    importlib.import_module("librosa.filters")
    librosa.resample = _positional(librosa.resample, ("y", "orig_sr", "target_sr"))
    librosa.load = _positional(librosa.load, ("path", "sr"))
    librosa.core.load = librosa.load
    feature = librosa.feature
    feature.melspectrogram = _positional(feature.melspectrogram, ("y", "sr"))
    librosa.filters.mel = _positional(librosa.filters.mel, ("sr", "n_fft"))
    _stand_in("unidecode", unidecode=lambda text: text)  # the benchmark's text is plain ASCII without numbers
    _stand_in("inflect", engine=lambda: None)


def _positional(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    return lambda *values, **keywords: function(**dict(zip(names, values, strict=False)), **keywords)


def _stand_in(name: str, **contents: Any) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module = types.ModuleType(name)
        vars(module).update(contents)
        sys.modules[name] = module


def speech(clip: Path, seconds: float) -> np.ndarray:
    """(T,) at 16 kHz, repeated to the length."""
    import soundfile

    samples, rate = soundfile.read(clip, dtype="float32")
    if rate != RATE or samples.ndim != 1:
        raise SystemExit(f"{clip}: the benchmark wants a mono clip at {RATE} Hz")
    return np.resize(samples, round(seconds * RATE))


def any_mel(seconds: float) -> np.ndarray:
    """(M, F) in the published range; what it says does not matter to the clock."""
    frames = round(seconds * RATE / HOP) + 1
    return np.random.default_rng(0).uniform(-4, 4, (MELS, frames)).astype(np.float32)


def unit_vector() -> np.ndarray:
    vector = np.abs(np.random.default_rng(0).normal(size=256)).astype(np.float32)
    return vector / np.linalg.norm(vector)


def serve(side: str, weights: Path, clip: Path, checkout: Path, threads: int) -> None:
    """Answer JSON lines on stdin with JSON lines on stdout; whatever the code prints goes to stderr."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    with contextlib.redirect_stdout(sys.stderr):
        if side == "weights":
            make_weights(weights, checkout)
            return
        started = time.perf_counter()
        import torch

        torch.set_num_threads(threads)
        if side == "ours":
            sys.path.insert(0, str(ROOT))
            jobs = our_jobs(weights, clip)
        else:
            jobs = their_jobs(weights, clip, checkout)
        print(json.dumps({"seconds": time.perf_counter() - started}), file=replies, flush=True)
        for line in sys.stdin:
            job = json.loads(line)
            started = time.perf_counter()
            facts = jobs[job["name"]](job)
            print(json.dumps({"seconds": time.perf_counter() - started, **facts}), file=replies, flush=True)


# --- the parent -------------------------------------------------------------------------------------------------------


class Side:
    """A serving process; `ask` times one job in it."""

    def __init__(self, name: str, args: argparse.Namespace, weights: Path) -> None:
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "PYTHONPATH": ""}
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", name, "--weights", str(weights)]
        command += ["--peer", str(args.peer), "--clip", str(args.clip), "--threads", str(args.threads)]
        folder = args.peer if name == "peer" else ROOT
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=environment, encoding="utf-8"
        )
        self.start_seconds = self._reply()["seconds"]

    def ask(self, **job: Any) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _reply(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.name} stopped with code {self._process.wait()}; its last words are above")
        return json.loads(line)


def compare(sides: list[Side], repeats: int, quick: bool, only: list[str]) -> dict[str, dict[str, Any]]:
    """Every job in turn on both sides, the first round thrown away; frames of ours set the length of theirs."""
    ours, theirs = sides
    frames = ours.ask(name="synthesize")["frames"]
    jobs = [
        ("preprocess", {}, repeats),
        ("embed", {"seconds": 5}, repeats),
        ("synthesize", {"frames": frames}, repeats),
        ("vocode unfolded", {"seconds": 0.5}, 1 if quick else min(repeats, 3)),
        ("vocode folded", {"seconds": 3}, 1 if quick else min(repeats, 3)),
        ("whole flow", {"frames": frames}, 1 if quick else min(repeats, 3)),
    ]
    results = {"start: import and load": _row([ours.start_seconds], [theirs.start_seconds])}
    for name, details, rounds in jobs:
        if only and name not in only:
            continue
        times: tuple[list[float], list[float]] = ([], [])
        for round_number in range(rounds + (rounds > 1)):
            for side, seconds in zip(sides, times, strict=True):
                taken = side.ask(name=name, **details)["seconds"]
                if round_number or rounds == 1:
                    seconds.append(taken)
        label = f"{name} {details['seconds']:g} s" if "seconds" in details else name
        label = f"{label}, {frames * HOP / RATE:.1f} s of speech" if "frames" in details else label
        results[label] = _row(*times)
        print(line(label, results[label]), flush=True)
    return results


def _row(ours: list[float], theirs: list[float]) -> dict[str, Any]:
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


def line(label: str, row: dict[str, Any]) -> str:
    spread = f"{row['lowest_ratio']:.2f} to {row['highest_ratio']:.2f}"
    return (
        f"{label:42s} ours {row['ours_median_s']:9.4f} s   peer {row['peer_median_s']:9.4f} s   "
        f"{row['times_faster']:6.2f} times faster ({spread})"
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--clip", type=Path, default=ROOT / "samples" / "austen_0870.wav", help="mono, 16 kHz")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of what takes long")
    parser.add_argument("--only", nargs="+", default=[], metavar="JOB", help="preprocess, embed, synthesize, ...")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--serve", choices=("ours", "peer", "weights"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--weights", type=Path, help="folder with encoder.pt to use (default: the published one, if found)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    args.peer, args.clip = args.peer.resolve(), args.clip.resolve()
    if not (args.peer / "encoder" / "inference.py").is_file():
        print(f"error: {args.peer}: no checkout of Real-Time-Voice-Cloning here", file=sys.stderr)
        return 2
    if args.serve:
        serve(args.serve, args.weights, args.clip, args.peer, args.threads)
        return 0
    sys.path.insert(0, str(ROOT))
    from evaluation.judges import find_published_encoder

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder)
        published = args.weights / "encoder.pt" if args.weights else find_published_encoder()
        if published:
            (weights / "encoder.pt").write_bytes(published.read_bytes())
        command = [sys.executable, __file__, "--serve", "weights", "--weights", folder, "--peer", str(args.peer)]
        subprocess.run(command, check=True, cwd=args.peer)
        sides = [Side("ours", args, weights), Side("peer", args, weights)]
        try:
            results = compare(sides, args.repeats, args.quick, args.only)
        finally:
            for side in sides:
                side.close()
    start = "start: import and load"
    print(line(start, results[start]))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"threads": args.threads, "results": results}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
