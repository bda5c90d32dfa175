"""What each process of `peer.py` does: this toolkit's stages, or the peer's, as jobs that stdin asks for."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import io
import json
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peer_encoder import our_encoder_jobs, their_encoder_jobs, their_folder
from peer_wavernn import our_training_jobs, their_training_jobs

ROOT = Path(__file__).resolve().parent.parent
TEXT = "If you hear the bell, leave the building at once and wait near the bridge."
RATE, HOP, MELS = 16_000, 200, 80  # of the published models
Job = Callable[[float], int]  # seconds of audio -> how much was made


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
    synthesizer.network.use_native_decoder()
    folded = Vocoder.load(weights / "vocoder.pt")
    unfolded = functools.cache(lambda: Vocoder.load(weights / "vocoder.pt", generation=Generation(folded=False)))

    @torch.inference_mode()
    def synthesize(speaker: np.ndarray, seconds: float) -> np.ndarray:
        # Not `synthesize`, which stops, trims and tries again by its output: the number of steps is given here
        network, dropout = synthesizer.network, ItemDropout([0], synthesizer.device)
        tokens = torch.tensor([synthesizer.encode(TEXT).tokens])
        memory = network.encode_text(tokens, torch.tensor([tokens.shape[1]]), torch.from_numpy(speaker)[None], dropout)
        steps = -(-frames_of(seconds) // network.reduction)
        decode = network.native_free_run or network.free_run
        mel = decode(memory, dropout, lambda *_: False, steps).mel
        return network.post(mel, torch.tensor([mel.shape[2]]), memory.condition)[0].numpy()

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
    import librosa.filters  # as the peer does; the rest of librosa is loaded when it is first called

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
    """Mel frames of so many seconds."""
    return round(seconds * RATE / HOP)


def unit_vector() -> np.ndarray:
    """A random speaker embedding (256,) of norm 1."""
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
    """The jobs that need no synthesizer and no vocoder."""
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
