"""One fresh process that times the stages of a folder of models and prints one JSON line. `evaluate.py speed` runs it.

Imports are inside the functions that time them, because loading is measured too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

TEXTS = {
    "short": "Please close the door.",
    "sentence": "If you hear the bell, leave the building at once and wait near the old stone bridge.",
    "paragraph": "The old mill stood at the end of the village. Every morning the children passed it on their way to "
    "school. Nobody had worked there for years, but the great wheel still turned when the river was full.",
}
SEED = 0

Stages = dict[str, dict[str, Any]]


def work(job: dict[str, Any]) -> dict[str, Any]:
    """job: models, vocoder, threads, repeats, seconds, device -> stages (seconds of every run), missing, peak_mib."""
    stages: Stages = {}
    started = time.perf_counter()
    import torch

    torch.set_num_threads(job["threads"])
    from cloning.cloner import VoiceCloner

    stages["import (cold)"] = {"seconds": [time.perf_counter() - started]}
    from utils.errors import CloningError

    try:
        seconds, cloner = timed(lambda: VoiceCloner.load(**_paths(job)), 0)
    except CloningError as error:
        return {"stages": stages, "missing": {"chain": str(error)}, "peak_mib": peak_mib()}
    stages["load all (cold)"] = {"seconds": seconds}
    clip = _clip()
    stages["clone, first (cold)"] = _clone(cloner, clip, TEXTS["sentence"], 0)
    for name, text in TEXTS.items():
        stages[f"clone {name}"] = _clone(cloner, clip, text, job["repeats"])
    _stages(stages, cloner, clip, job)
    return {"stages": stages, "missing": {}, "peak_mib": peak_mib()}


def timed(function: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    """Seconds of `repeats` runs after one that is thrown away (with 0: of that very first), and the last result."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - started)
    return (seconds[1:] if repeats else seconds), result


def peak_mib() -> float:
    """Most memory that this process ever held, in MiB."""
    import psutil

    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return memory.peak_wset / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _stages(stages: Stages, cloner: Any, clip: Any, job: dict[str, Any]) -> None:
    import numpy as np
    import torch

    from synthesizer.speech import SpeechOptions
    from utils.audio.io import Waveform
    from utils.audio.mel import mel_spectrogram

    repeats, rate = job["repeats"], clip.sample_rate
    for length in (5, 30):
        longer = Waveform(np.resize(clip.samples, length * rate), rate)
        seconds, prepared = timed(partial(cloner.encoder.preprocess, longer), repeats)
        stages[f"preprocess {length} s"] = {"seconds": seconds, "audio_seconds": length}
        whole = Waveform(np.resize(prepared.samples, length * rate), rate)
        seconds, _ = timed(partial(cloner.encoder.embed_utterance, whole), repeats)
        stages[f"embed {length} s"] = {"seconds": seconds, "audio_seconds": length}
    speaker = cloner.embed_reference(clip)
    for name, text in TEXTS.items():
        options = SpeechOptions(seed=SEED)
        seconds, spoken = timed(partial(cloner.synthesizer.speak, text, speaker, options), repeats)
        audio_seconds = spoken.mel.shape[-1] * cloner.synthesizer.mel.frame_seconds
        stages[f"synthesize {name}"] = {"seconds": seconds, "audio_seconds": audio_seconds}
    mel_config = cloner.vocoder.mel
    for length in job["seconds"]:
        samples = np.resize(clip.samples, round(length * mel_config.sample_rate))
        mel = mel_spectrogram(torch.from_numpy(samples), mel_config)
        seconds, made = timed(partial(cloner.vocoder.vocode, mel, seed=SEED), repeats)
        row = {"seconds": seconds, "audio_seconds": made.seconds, "samples": len(made)}
        stages[f"vocode {length:g} s"] = row


def _clone(cloner: Any, clip: Any, text: str, repeats: int) -> dict[str, Any]:
    seconds, cloning = timed(lambda: cloner.clone(clip, text, seed=SEED), repeats)
    return {"seconds": seconds, "audio_seconds": cloning.audio.seconds, "samples": len(cloning.audio)}


def _paths(job: dict[str, Any]) -> dict[str, Any]:
    from evaluation.judges.likeness import find_published_encoder
    from utils.weights.find import find_stage

    folder = Path(job["models"])
    paths: dict[str, Any] = {"models": folder, "device": job["device"]}
    if job["vocoder"] or find_stage(folder, "vocoder") is None:
        paths["vocoder"] = job["vocoder"] or "griffin-lim"
    if find_stage(folder, "encoder") is None and find_published_encoder():
        paths["encoder"] = find_published_encoder()
    return paths


def _clip() -> Any:
    from evaluation.lists.trials import AUDIO, SAMPLES
    from utils.audio.io import read
    from utils.errors import CloningError

    clips = sorted(path for path in SAMPLES.glob("*") if path.suffix.lower() in AUDIO)
    if not clips:
        raise CloningError(f"{SAMPLES}: no clip to clone from")
    return read(clips[0])


if __name__ == "__main__":
    print(json.dumps(work(json.loads(sys.argv[1]))))
