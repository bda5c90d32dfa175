"""An interrupted `evaluate.py vocoder` continues: what was made is not made again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import evaluate
from evaluation.cache import Cache
from evaluation.commands import vocoder as resynthesis
from evaluation.measure import Panel
from evaluation.models import Column
from tests.conftest import ROOT
from tests.support.vocoder_set import voice
from utils.audio.io import Waveform, resample

pytestmark = pytest.mark.slow


def test_resyntheses_are_made_once(tmp_path, monkeypatch):
    clip = ROOT / "samples" / "austen_0890.wav"
    made = []

    class Vocoder:
        name, fingerprint, mel = "toy", "abc", resynthesis.Vocoder.load("griffin-lim").mel

        def vocode(self, mel, seed):
            made.append(mel.shape)
            return Waveform(np.full((mel.shape[1] - 1) * 200, 0.1, np.float32), 16000)

    monkeypatch.setattr(resynthesis.Vocoder, "load", staticmethod(lambda path, device: Vocoder()))
    monkeypatch.setattr(resynthesis, "compare", lambda original, made: {"stft": 1.0})
    rows = []
    for _ in range(2):
        cache = Cache(tmp_path / "cache" / "vocoder.jsonl")
        panel = SimpleNamespace(cache=cache, present=[], measure=lambda w, item, text: {"mean": w.samples.mean()})
        sounds = {"a": {"real": resynthesis.real_waveform(clip, 16000)}}
        args = SimpleNamespace(device="cpu", report=tmp_path, minutes=5.0)
        report = SimpleNamespace(missing=[])
        rows.append(
            resynthesis._one_vocoder(
                Column("toy", None), {"a": resynthesis.ResynthesisClip(clip, "")}, sounds, panel, report, args
            )
        )
        assert len(sounds["a"]["toy"]) == (made[0][1] - 1) * 200 and not report.missing
    assert len(made) == 1 and rows[0] == rows[1] and "rtf" in rows[0]["a"]


class Parrot:
    """A recognizer with one answer."""

    name = about = "parrot"

    def transcribe(self, waveform):
        return "hello there"

    def normalize(self, text):
        return text.lower()


def test_the_report_has_a_table_of_every_vocoder(tmp_path, monkeypatch):
    pytest.importorskip("jiwer", reason="requirements/eval.txt is not installed")
    load = lambda cache, **_: Panel(cache, [], [], Parrot(), "0")  # noqa: E731
    monkeypatch.setattr(resynthesis.Panel, "load", load)
    monkeypatch.setattr(resynthesis, "compare", lambda original, made: {"stft": 1.25})
    (tmp_path / "models").mkdir()
    words = ["vocoder", "--models", str(tmp_path / "models"), "--limit", "1", "--report", str(tmp_path)]
    args = evaluate.build_parser("vocoder").parse_args(words)
    lines = resynthesis.run(args).tables[0].markdown().splitlines()
    assert (
        lines[2].startswith("| real | 1 | ") and lines[3].startswith("| griffin-lim | 1 | ") and "| 1.250 |" in lines[3]
    )


def test_what_a_wider_vocoder_adds_above_the_judges_band_is_no_distance():
    rate, rng = 22050, np.random.default_rng(0)
    original = Waveform(resample(voice(1.0, 3), 16000, rate), rate)
    hiss = np.fft.rfft(0.05 * rng.standard_normal(len(original)))
    hiss[: int(8500 * len(original) / rate)] = 0
    wider = Waveform((original.samples + np.fft.irfft(hiss, len(original))).astype(np.float32), rate)
    duller = Waveform(original.samples - np.pad(original.samples, (4, 0))[:-4] / 2, rate)
    assert resynthesis.compare(original, wider)["stft"] < 0.05 < 0.3 < resynthesis.compare(original, duller)["stft"]
