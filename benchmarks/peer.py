"""Times another checkout of the Real-Time-Voice-Cloning code beside ours: same inputs, same weights, in turn (A B A B).

    python benchmarks/peer.py --peer ../Real-Time-Voice-Cloning [--threads 1] [--repeats 5] [--json ratios.json]
    python benchmarks/peer.py --peer ../Real-Time-Voice-Cloning --only wavernn-folded --seconds 1 --repeats 1
    python benchmarks/peer.py --peer ../Real-Time-Voice-Cloning --only encode encode-default folder ge2e-step
    python benchmarks/peer.py --peer ../Real-Time-Voice-Cloning --only wavernn-step wavernn-step-bf16 --repeats 1

Each side lives in a process of its own. The other code needs names that numpy, scipy and librosa dropped since it was
written; they are put back in its process before it is imported, and no file of its checkout is touched. Weights are
random ones of the published size, made by the other code and read by both (the published encoder where it is found).
Nobody would understand them, but the clock does not mind: both sides take the same number of steps.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.util
import io
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
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))
from peer_encoder import ENCODER_PARTS, FILES, our_encoder_jobs, their_encoder_jobs, their_folder  # noqa: E402
from peer_wavernn import TRAINING_PARTS, our_training_jobs, their_training_jobs  # noqa: E402

TEXT = "If you hear the bell, leave the building at once and wait near the bridge."
RATE, HOP, MELS = 16_000, 200, 80  # of the published models
EMBEDDED_S = 5.0
UNFOLDED_S = 0.5  # at most: it takes one step a sample
SHORTEST_S = 0.3  # the other WaveRNN fades out over 20 frames and fails where there are fewer
# part -> the most rounds: some take the other code a minute
PARTS = {"import": 3, "load": 3, "preprocess": 99, "embed": 99, "tacotron": 99}
SLOW = ("wavernn-folded", "wavernn-unfolded", "whole")
PARTS |= dict.fromkeys(SLOW, 3) | ENCODER_PARTS | TRAINING_PARTS
LIGHT = {*ENCODER_PARTS, *TRAINING_PARTS}  # need no synthesizer and no vocoder loaded
FOLDER_CLIP_S = 9.0
WARM_UP = ("preprocess", "embed", "tacotron", "wavernn-unfolded")
Job = Callable[[float], int]  # seconds of audio -> how much was made


# --- the two sides, each in its own process ---------------------------------------------------------------------------


def our_jobs(weights: Path, clip: Path) -> dict[str, Job]:
    """Loads our stages from the published-layout files in `weights`."""
    import torch

    from encoder.inference import SpeakerEncoder
    from synthesizer.inference import Synthesizer
    from synthesizer.models.layers import ItemDropout
    from utils.audio.io import Waveform
    from vocoder.inference import Vocoder
    from vocoder.wavernn.generate import Generation

    encoder = SpeakerEncoder.load(weights / "encoder.pt")
    synthesizer = Synthesizer.load(weights / "synthesizer.pt")
    folded = Vocoder.load(weights / "vocoder.pt")
    unfolded = functools.cache(lambda: Vocoder.load(weights / "vocoder.pt", generation=Generation(folded=False)))

    @torch.inference_mode()
    def synthesize(speaker: np.ndarray, seconds: float) -> np.ndarray:
        # Not `synthesize`, which stops, trims and tries again by what it hears: the number of steps is given here
        network, dropout = synthesizer.network, ItemDropout([0], synthesizer.device)
        tokens = torch.tensor([synthesizer.tokens(TEXT)])
        memory = network.remember(tokens, torch.tensor([tokens.shape[1]]), torch.from_numpy(speaker)[None], dropout)
        steps = -(-frames_of(seconds) // network.reduction)
        mel = network.generate(memory, dropout, lambda *_: False, steps)["mel"]
        return network.post(mel, torch.tensor([mel.shape[2]]))[0].numpy()

    def whole(seconds: float) -> int:
        speaker = encoder.embed_utterance(encoder.preprocess(clip))
        return len(folded.vocode(synthesize(speaker, seconds), seed=0))

    return {
        "preprocess": lambda _: len(encoder.preprocess(clip)),
        "embed": lambda seconds: len(encoder.embed_utterance(Waveform(speech(clip, seconds), RATE))),
        "tacotron": lambda seconds: synthesize(unit_vector(), seconds).shape[1],
        "wavernn-folded": lambda seconds: len(folded.vocode(any_mel(seconds), seed=0)),
        "wavernn-unfolded": lambda seconds: len(unfolded().vocode(any_mel(seconds), seed=0)),
        "whole": whole,
    }


def their_jobs(weights: Path, clip: Path) -> dict[str, Job]:
    """Loads the stages of the checkout in `sys.path` from the same files."""
    import torch

    encoder = importlib.import_module("encoder.inference")
    synthesis = importlib.import_module("synthesizer.inference")
    text = importlib.import_module("synthesizer.utils.text")
    vocoder = importlib.import_module("vocoder.inference")
    encoder.load_model(weights / "encoder.pt", "cpu")
    synthesizer = synthesis.Synthesizer(weights / "synthesizer.pt", verbose=False)
    synthesizer.load()
    vocoder.load_model(weights / "vocoder.pt", verbose=False)

    def synthesize(speaker: np.ndarray, seconds: float) -> np.ndarray:
        tokens = torch.tensor([text.text_to_sequence(TEXT, ["english_cleaners"])])
        voice = torch.from_numpy(speaker)[None].float()
        _, mel, _ = synthesizer._model.generate(tokens, voice, steps=frames_of(seconds))
        return mel.detach().numpy()[0]

    def vocode(mel: np.ndarray, folded: bool) -> int:
        return len(vocoder.infer_waveform(mel, batched=folded, progress_callback=lambda *_: None))

    def whole(seconds: float) -> int:
        speaker = encoder.embed_utterance(encoder.preprocess_wav(clip))
        return vocode(synthesize(speaker, seconds), True)

    return {
        "preprocess": lambda _: len(encoder.preprocess_wav(clip)),
        "embed": lambda seconds: len(encoder.embed_utterance(speech(clip, seconds))),
        "tacotron": lambda seconds: synthesize(unit_vector(), seconds).shape[1],
        "wavernn-folded": lambda seconds: vocode(any_mel(seconds), True),
        "wavernn-unfolded": lambda seconds: vocode(any_mel(seconds), False),
        "whole": whole,
    }


def make_weights(weights: Path) -> None:
    """Random weights of the published sizes, by the checkout's own classes; the stop token never fires."""
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
    sys.modules["scipy.ndimage.morphology"] = importlib.import_module("scipy.ndimage")
    import librosa
    import librosa.filters  # as the other code does; the rest of librosa is loaded when it is first called

    librosa.filters.mel = _positional(librosa.filters.mel, ("sr", "n_fft"))
    librosa.load = _late("librosa.core.audio", "load", ("path", "sr"))
    librosa.resample = _late("librosa.core.audio", "resample", ("y", "orig_sr", "target_sr"))

    def melspectrogram(*values: Any, **keywords: Any) -> Any:
        feature = importlib.import_module("librosa.feature")  # which takes the stand-in's place
        feature.melspectrogram = _positional(feature.melspectrogram, ("y", "sr"))
        return feature.melspectrogram(*values, **keywords)

    librosa.feature = types.SimpleNamespace(melspectrogram=melspectrogram)
    _stand_in("unidecode", unidecode=lambda text: text)  # the benchmark's text is plain ASCII without numbers
    _stand_in("inflect", engine=lambda: None)


def _positional(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    return lambda *values, **keywords: function(**dict(zip(names, values, strict=False)), **keywords)


def _late(module: str, name: str, names: tuple[str, ...]) -> Callable[..., Any]:
    """The same for a function whose module is imported when it is first called."""
    found = functools.cache(lambda: _positional(getattr(importlib.import_module(module), name), names))
    return lambda *values, **keywords: found()(*values, **keywords)


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

    samples, _ = soundfile.read(clip, dtype="float32")
    return np.resize(samples, round(seconds * RATE))


def any_mel(seconds: float) -> np.ndarray:
    """(M, F) in the published range; what it says does not matter to the clock."""
    return np.random.default_rng(0).uniform(-4, 4, (MELS, frames_of(seconds) + 1)).astype(np.float32)


def frames_of(seconds: float) -> int:
    return round(seconds * RATE / HOP)


def unit_vector() -> np.ndarray:
    vector = np.abs(np.random.default_rng(0).normal(size=256)).astype(np.float32)
    return vector / np.linalg.norm(vector)


def serve(args: argparse.Namespace) -> None:
    """Answer JSON lines on stdin with JSON lines on stdout. What the code itself prints is dropped, errors are not."""
    with contextlib.redirect_stdout(io.StringIO()):
        started = time.perf_counter()
        if args.serve == "ours":
            sys.path.insert(0, str(ROOT))
        else:
            sys.path.insert(0, str(args.peer))
            restore_names()
        if args.serve == "weights":
            make_weights(args.weights)
            return
        if args.serve == "folder":
            their_folder(args.weights, args.clip)
            return
        import torch

        torch.set_num_threads(args.threads)
        if args.light:
            answer_jobs(light_jobs(args), args.cpu)
            return
        for stage in ("encoder", "synthesizer", "vocoder"):
            importlib.import_module(f"{stage}.inference")
        imported = time.perf_counter()
        jobs = (our_jobs if args.serve == "ours" else their_jobs)(args.weights, args.clip) | light_jobs(args)
        answer_jobs(jobs, args.cpu, {"import": imported - started, "load": time.perf_counter() - imported})


def light_jobs(args: argparse.Namespace) -> dict[str, Job]:
    if args.serve == "ours":
        return our_encoder_jobs(args.weights, args.clip) | our_training_jobs()
    return their_encoder_jobs(args.weights, args.clip, args.peer) | their_training_jobs()


def answer_jobs(jobs: dict[str, Job], cpu: bool, started: dict[str, float] | None = None) -> None:
    """Do what stdin asks for, line by line, until it ends."""
    _answer(started or {})
    for line in sys.stdin:
        job = json.loads(line)
        before = clock(cpu)
        made = jobs[job["part"]](job["seconds"])
        _answer({"taken": clock(cpu) - before, "made": made})


def clock(cpu: bool) -> float:
    """Seconds; with `cpu` those that processors worked for this process and its finished children."""
    if not cpu:
        return time.perf_counter()
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _answer(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), file=sys.__stdout__, flush=True)


# --- the parent -------------------------------------------------------------------------------------------------------


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
        if part in self._started:
            fresh = self._again()
            fresh.close()
            return fresh._started[part]
        self._process.stdin.write(json.dumps({"part": part, "seconds": seconds}) + "\n")
        self._process.stdin.flush()
        return self._reply()["taken"]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _reply(self) -> dict[str, float]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.name} stopped with code {self._process.wait()}; its last words are above")
        return json.loads(line)


def command(name: str, args: argparse.Namespace, weights: Path) -> list[str]:
    script = [sys.executable, str(Path(__file__).resolve()), "--serve", name]
    return [*script, "--weights", str(weights), "--peer", str(args.peer)]


def flags(args: argparse.Namespace) -> list[str]:
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
    spread = f"{found['lowest_ratio']:.2f} to {found['highest_ratio']:.2f} ({len(found['ours_s'])})"
    ours, theirs = found["ours_median_s"], found["peer_median_s"]
    return f"{label:28s}{ours:10.4f}{theirs:10.4f}{found['times_faster']:14.2f}   {spread}"


def build_parser() -> argparse.ArgumentParser:
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
    from evaluation.judges.likeness import find_published_encoder
    from utils.errors import CloningError
    from utils.files import write_text

    if not (args.peer / "encoder" / "inference.py").is_file():
        raise CloningError(f"{args.peer}: no checkout of Real-Time-Voice-Cloning here")
    if args.seconds < SHORTEST_S:
        raise CloningError(f"--seconds {args.seconds:g}: the other code makes no less than {SHORTEST_S:g} s")
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
    """CloningError unless both sides read it alike."""
    import soundfile

    from utils.errors import CloningError

    if not clip.is_file():
        raise CloningError(f"{clip}: no such file")
    info = soundfile.info(clip)
    if (info.samplerate, info.channels) != (RATE, 1):
        raise CloningError(f"{clip}: {info.samplerate} Hz, {info.channels} channels; wanted: {RATE} Hz, mono")


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    args.peer, args.clip = args.peer.resolve(), args.clip.resolve()
    if args.serve:
        serve(args)
        return 0
    sys.path.insert(0, str(ROOT))
    from utils.errors import exit_code

    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
