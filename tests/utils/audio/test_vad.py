"""Silence trimming: the recorded decisions, sample for sample, and the laws of smoothing and trimming."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.conftest import SAMPLES
from tests.support.work import work_of
from utils.audio import io as audio
from utils.audio import vad
from utils.audio.vad import (
    SILERO,
    VadConfig,
    new_detector,
    require_voice,
    smooth,
    trim_silence,
    voiced_mask,
    window_flags,
)
from utils.errors import CloningError

CLIPS = ["1320", "3575", "6829", "8230", "p240", "p260"]
PUBLIC_DOMAIN = {"0870": "austen_0870.wav", "0890": "austen_0890.wav", "goforward": "goforward.wav"}


@pytest.fixture(scope="session")
def speech(data_dir) -> np.ndarray:
    return audio.normalize_volume(as_recorded(SAMPLES / "austen_0890.wav"))


def as_recorded(path: Path) -> np.ndarray:
    """Samples with their offset, as the recorded decisions were made on: `audio.read` takes it out."""
    return soundfile.read(path, dtype="float32")[0]


@pytest.mark.parametrize("clip", PUBLIC_DOMAIN)
def test_recorded_public_domain_clips(data_dir, clip):
    recorded = np.load(data_dir / "public_domain.npz")
    wav = as_recorded(SAMPLES / PUBLIC_DOMAIN[clip])
    trimmed = trim_silence(audio.normalize_volume(wav))
    assert len(trimmed) == recorded[f"{clip}/samples"] and trimmed.dtype == np.float32
    np.testing.assert_allclose(trimmed[::8], recorded[f"{clip}/wav_every_8"], atol=1e-6)


@pytest.mark.parametrize("clip", CLIPS)
def test_recorded_decisions(shared_golden, clip):
    recorded, flags = np.load(shared_golden / "encoder.npz"), np.load(shared_golden / "vad.npz")
    wav = audio.normalize_volume(audio.read(shared_golden / "clips" / f"{clip}.wav").samples)
    np.testing.assert_array_equal(window_flags(wav), recorded[f"{clip}/vad_flags"])
    np.testing.assert_array_equal(voiced_mask(wav), recorded[f"{clip}/mask"])
    np.testing.assert_array_equal(trim_silence(wav), recorded[f"{clip}/wav"])
    for mode in range(4):
        for milliseconds in (10, 20, 30):
            ours = window_flags(wav, config=VadConfig(mode=mode, window_ms=milliseconds))
            assert len(ours) == flags[f"{clip}/windows_{milliseconds}ms"]
            np.testing.assert_array_equal(np.packbits(ours), flags[f"{clip}/mode{mode}_{milliseconds}ms"])


@pytest.mark.parametrize("rate", [8000, 16000, 32000, 48000])
def test_rates_agree_on_where_the_voice_is(speech, rate):
    wav = np.concatenate([np.zeros(16000, np.float32), speech, np.zeros(16000, np.float32)])
    mask = voiced_mask(audio.resample(wav, 16000, rate), rate)
    assert len(mask) == len(wav) // 480
    assert mask[:28].sum() == 0 and mask[-28:].sum() == 0 and mask[40:-40].mean() > 0.8


def test_another_rate_is_refused(speech):
    with pytest.raises(ValueError, match="not 22050"):
        trim_silence(speech, 22050)


@settings(deadline=None, max_examples=200)
@given(arrays(bool, st.integers(0, 60)), st.integers(1, 12), st.integers(0, 9))
def test_smoothing_is_the_plain_definition(flags, width, silence):
    before, reach = (width - 1) // 2, silence // 2
    voiced = []
    for i in range(len(flags)):
        around = [flags[j] for j in range(i - before, i - before + width) if 0 <= j < len(flags)]
        voiced.append(round(sum(map(int, around)) / width) > 0)  # Python rounds half to even, too
    widened = [any(voiced[max(0, i - reach) : i - reach + silence + 1]) for i in range(len(flags))]
    np.testing.assert_array_equal(smooth(flags, VadConfig(average_width=width, max_silence=silence)), widened)


@pytest.mark.parametrize("silence", range(10))
def test_widening_is_scipys_dilation(silence):
    ndimage = pytest.importorskip("scipy.ndimage")
    flags = np.random.default_rng(silence).random(200) < 0.05
    expected = ndimage.binary_dilation(flags, np.ones(silence + 1))
    np.testing.assert_array_equal(smooth(flags, VadConfig(average_width=1, max_silence=silence)), expected)


def test_silences_go_and_speech_stays(speech):
    pause = np.zeros(16000, np.float32)
    kept = trim_silence(np.concatenate([pause, speech, pause, speech, pause]))
    alone = trim_silence(speech)
    assert abs(len(kept) - 2 * len(alone)) < 0.5 * 16000


@pytest.mark.parametrize("samples", [0, 1, 479])
def test_less_than_a_window_is_trimmed_to_nothing(samples):
    wav = np.full(samples, 0.5, np.float32)
    assert len(voiced_mask(wav)) == 0 and trim_silence(wav).shape == (0,)


def test_trimming_keeps_the_samples_untouched_and_whole_windows(speech):
    trimmed, mask = trim_silence(speech), voiced_mask(speech)
    assert len(trimmed) == mask.sum() * 480
    np.testing.assert_array_equal(trimmed, speech[: len(mask) * 480][np.repeat(mask, 480)])


def test_too_little_voice_says_how_much_was_found_and_is_wanted(speech):
    quiet = np.random.default_rng(0).normal(0, 1e-3, 32000).astype(np.float32)
    wav = np.concatenate([quiet, speech[8000:14000], quiet])
    found = len(trim_silence(wav)) / 16000
    assert 0.2 < found < 1
    message = (
        f"too little voice: found {found:.2f} s of speech in me.wav (4.38 s long), at least 1.60 s is wanted: "
        "give a longer or clearer recording"
    )
    with pytest.raises(CloningError) as error:
        require_voice(wav, 1.6, "me.wav")
    assert str(error.value) == message
    np.testing.assert_array_equal(require_voice(wav, found, "me.wav"), trim_silence(wav))


@pytest.mark.parametrize("wav", [np.zeros(16000, np.float32), np.full(16000, 3e-5, np.float32), np.zeros(0)])
def test_silence_only(wav):
    with pytest.raises(CloningError, match=r"^me\.wav is silence only: nothing was recorded in its [01]\.0 s$"):
        require_voice(wav, 1.0, "me.wav")


def test_room_noise_is_no_voice():
    noise = audio.normalize_volume(np.random.default_rng(0).normal(0, 1e-3, 48000).astype(np.float32))
    with pytest.raises(CloningError, match=r"^too little voice: found 0\.00 s of speech in hiss \(3\.00 s long\)"):
        require_voice(noise, 1.0, "hiss")


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"detector": "ear"}, "detector is 'ear'"),
        ({"release": 0.6}, "release 0.6 and threshold 0.5"),
        ({"mode": 4}, "mode is 4"),
        ({"window_ms": 25}, "window_ms is 25"),
        ({"average_width": 0}, "average_width 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings_, message):
    with pytest.raises(ValueError, match=message):
        VadConfig(**settings_)


def test_no_python_work_per_sample(speech):
    """Some lines for each of the 166 windows; the published code packed all 80,000 samples one by one."""
    wav = speech[:80000]
    trim_silence(wav)
    assert work_of(lambda: trim_silence(wav)) < 20 * len(wav) / 480


needs_silero = pytest.mark.skipif(find_spec("silero_vad") is None, reason="silero-vad is not installed")
DETECTORS = [VadConfig(), pytest.param(SILERO, marks=needs_silero)]


@pytest.mark.parametrize("config", DETECTORS)
def test_a_detector_hears_the_same_in_one_piece_or_many(speech, config):
    wav, window = speech[: 2 * 16000], config.window_samples()
    detector = new_detector(16000, config)
    one_by_one = [detector(wav[i : i + window])[0] for i in range(0, len(wav) // window * window, window)]
    np.testing.assert_array_equal(one_by_one, window_flags(wav, config=config))
    np.testing.assert_array_equal(one_by_one, window_flags(wav, config=config))  # nothing is left from before


@pytest.mark.parametrize("config", DETECTORS)
def test_both_detectors_find_the_voice_between_silences(speech, config):
    hiss = np.random.default_rng(0).normal(0, 1e-4, 32000).astype(np.float32)
    mask = voiced_mask(np.concatenate([hiss, speech, hiss]), config=config)
    windows = 32000 // config.window_samples()
    assert mask[: windows - 7].sum() == 0 and mask[8 - windows :].sum() == 0
    assert mask[windows + 7 : 7 - windows].mean() > 0.85


@needs_silero
def test_silero_keeps_faint_speech(speech):
    """Half of a recording far from the microphone: the level of the whole is no help to WebRTC's detector."""
    wav = np.concatenate([speech, 0.02 * speech])
    dropped = [1 - voiced_mask(wav, config=config)[-(len(speech) // 480) :].mean() for config in (VadConfig(), SILERO)]
    assert dropped[1] < 0.5 * dropped[0]


@needs_silero
def test_silero_takes_two_rates_and_leaves_torchs_threads_alone(speech):
    import torch

    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match="8000, 16000 Hz, not 48000"):
        trim_silence(speech, 48000, SILERO)
    assert len(trim_silence(audio.resample(speech, 16000, 8000), 8000, SILERO)) > 8000
    assert torch.get_num_threads() == threads


def test_a_missing_detector_is_one_line(monkeypatch, speech):
    vad._silero_network.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CloningError, match=r"^the voice detector silero needs the package silero-vad: pip install -r"):
        trim_silence(speech, config=SILERO)
