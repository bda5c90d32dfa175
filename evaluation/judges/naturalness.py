"""Judges of naturalness; a missing judge is represented by its reason, never by a number."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from utils.audio.io import Waveform, resample
from utils.errors import CloningError, missing_package

log = logging.getLogger(__name__)
RATE = 16_000  # Hz, of every judge here
REQUIREMENTS = "requirements/eval.txt"


class Judge(Protocol):
    """Scores a clip without a reference."""

    name: str
    about: str  # goes into the report

    def measure(self, waveform: Waveform) -> dict[str, float]:
        """Scores by name."""


@dataclass(frozen=True)
class Missing:
    """In place of a judge: its cells stay empty, with this reason."""

    name: str
    reason: str


class DistillMos:
    """Predicted naturalness, 1 to 5 (Stahl & Gamper 2025, DistillMOS); real read speech of LibriVox gets about 4.5."""

    name = "DistillMOS"
    about = "DistillMOS v7 (package distillmos): predicted mean opinion score of naturalness, 1 to 5"

    def __init__(self) -> None:
        from utils.audio.torchaudio_compat import import_torchaudio

        try:
            import_torchaudio()
            import distillmos
        except ModuleNotFoundError as error:
            raise missing_package("distillmos", self.name, REQUIREMENTS) from error
        with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights are
            self._model = distillmos.ConvTransformerSQAModel().eval()

    def measure(self, waveform: Waveform) -> dict[str, float]:
        """`{"distillmos": 1 to 5}`."""
        import torch

        with torch.inference_mode():
            score = self._model(torch.from_numpy(at_rate(waveform))[None])
        return {"distillmos": float(score)}


class DnsMos:
    """Predicted quality, 1 to 5 (Reddy et al. 2022, DNSMOS P.835 and P.808)."""

    name = "DNSMOS"
    about = "DNSMOS P.835 overall and P.808 (package speechmos): predicted opinion scores, made for noisy calls, 1 to 5"

    def __init__(self) -> None:
        try:
            import onnxruntime
            from speechmos import dnsmos
        except ModuleNotFoundError as error:
            raise missing_package(error.name or "speechmos", self.name, REQUIREMENTS) from error
        # The package builds its sessions with every core; one thread here, beside the chain that is measured.
        models = Path(dnsmos.__file__).parent / "dnsmos_models"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._scorer = dnsmos.DNSMOS.__new__(dnsmos.DNSMOS)
        session = lambda name: onnxruntime.InferenceSession(str(models / name), options)  # noqa: E731
        self._scorer.onnx_sess = session("sig_bak_ovr.onnx")
        self._scorer.p808_onnx_sess = session("model_v8.onnx")

    def measure(self, waveform: Waveform) -> dict[str, float]:
        """`{"dnsmos": 1 to 5, "p808": 1 to 5}`; NaN for an empty clip."""
        samples = np.clip(at_rate(waveform), -1, 1)
        if not len(samples):
            return {"dnsmos": np.nan, "p808": np.nan}
        scores = self._scorer(samples, RATE, False)
        return {"dnsmos": float(scores["ovrl_mos"]), "p808": float(scores["p808_mos"])}


def naturalness_judges(dnsmos: bool = False) -> list[Judge | Missing]:
    """DistillMOS and, where asked for, DNSMOS (as slow as all other judges together), or the reason why not."""
    first = attempt(DistillMos.name, DistillMos)
    return [first, attempt(DnsMos.name, DnsMos) if dnsmos else Missing(DnsMos.name, "not asked for (--dnsmos)")]


def attempt(name: str, build: Callable[[], Any]) -> Any:
    """What `build` returns, or Missing with the reason that a CloningError or a failed import gives."""
    try:
        return build()
    except (CloningError, ImportError) as error:
        log.warning("%s is missing: %s", name, error)
        return Missing(name, str(error))


def at_rate(waveform: Waveform) -> np.ndarray:
    """Samples (T,) at the judges' 16 kHz."""
    if waveform.sample_rate == RATE:
        return waveform.samples
    return resample(waveform.samples, waveform.sample_rate, RATE)
