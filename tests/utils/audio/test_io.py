"""Reading audio: every format in, one waveform out; every kind of bad source, one line that says why."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.conftest import SAMPLES
from tests.support.sounds import correlation, encoded, tone
from utils.audio import io as audio
from utils.audio.io import Waveform, read, write
from utils.errors import CloningError

SUFFIXES = {".wav": 1e-4, ".flac": 1e-4, ".ogg": 0.05, ".opus": 0.05, ".mp3": 0.05}  # and how far a copy is off
floats = st.floats(-1, 1, width=32)
waves = arrays(np.float32, st.integers(0, 500), elements=floats)


@pytest.fixture(scope="session")
def speech(data_dir) -> Waveform:
    return read(SAMPLES / "goforward.wav")


# What is read


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_is_written_and_read_back(tmp_path, speech, suffix):
    path = write(tmp_path / f"speech{suffix}", speech, metadata={"comment": "synthetic", "title": "a test"})
    copy = read(path)
    assert copy.sample_rate == 16000 and abs(len(copy) - len(speech)) <= 1
    assert correlation(copy.samples, speech.samples) > 1 - SUFFIXES[suffix]
    info = soundfile.SoundFile(path)
    assert (info.comment, info.title) == ("synthetic", "a test")
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing else is left behind"


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channel_count(rate, channels):
    gains = np.arange(1, channels + 1) / channels  # channels of different loudness: their mean is what counts
    clip = tone(1, rate)[:, None] * gains
    wav = read(encoded(clip, rate))
    assert wav.sample_rate == 16000 and len(wav) == 16000
    np.testing.assert_allclose(wav.samples[500:-500], gains.mean() * tone(1)[500:-500], atol=2e-3)
    assert read(encoded(clip, rate), sample_rate=None).sample_rate == rate


@pytest.mark.parametrize("kind", ["str", "path", "file", "bytes", "bytesio", "array", "waveform"])
def test_every_kind_of_source_gives_the_same(data_dir, speech, kind):
    path = SAMPLES / "goforward.wav"
    with path.open("rb") as file:
        source = {
            "str": str(path), "path": path, "file": file, "bytes": path.read_bytes(),
            "bytesio": io.BytesIO(path.read_bytes()), "array": speech.samples, "waveform": speech,
        }[kind]  # fmt: skip
        np.testing.assert_array_equal(read(source).samples, speech.samples)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_every_sample_type_of_wav(speech, subtype):
    wav = read(encoded(speech.samples, subtype=subtype))
    assert wav.samples.dtype == np.float32 and correlation(wav.samples, speech.samples) > 0.98


def test_arrays_of_every_type_and_shape():
    wave = tone(0.5)
    for array in (
        wave.astype(np.float64),
        np.stack([wave, wave], axis=1),
        np.stack([wave, wave], axis=0),
        np.round(wave * 32768).astype(np.int16),
        np.round(wave.astype(np.float64) * 2**31).astype(np.int32),
    ):
        np.testing.assert_allclose(read(array).samples, wave, atol=2e-5)
    np.testing.assert_allclose(read(np.round(wave * 128 + 128).astype(np.uint8)).samples, wave, atol=1 / 128)
    assert read(wave, source_rate=8000).seconds == pytest.approx(1.0)
    assert read(wave, source_rate=8000, sample_rate=None).sample_rate == 8000


def test_channels_of_an_array_that_cancel_are_not_averaged():
    wave = tone(0.5)
    out_of_phase = np.stack([0.5 * wave, -wave], axis=1)
    np.testing.assert_array_equal(read(out_of_phase).samples, -wave)
    np.testing.assert_allclose(read(encoded(out_of_phase, subtype="FLOAT")).samples, -wave, atol=1e-6)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.int64, bool])
def test_a_waveform_takes_no_integers_for_floats(kind):
    with pytest.raises(ValueError, match=rf"not {np.dtype(kind)} \(9,\): Waveform\.from_array"):
        Waveform(np.zeros(9, kind), 16000)


@pytest.mark.parametrize("rate", [0, -5, 999, 768_001, math.nan, True, "16000"])
def test_no_rate_but_one_of_recordings_is_taken(speech, rate):
    limits = "1000 to 768000 Hz is understood"
    for source in (speech, speech.samples, SAMPLES / "goforward.wav"):
        with pytest.raises(
            CloningError, match=rf"^the result, by sample_rate, has a sample rate of {rate!r} Hz; {limits}$"
        ):
            read(source, sample_rate=rate)
    with pytest.raises(CloningError, match=rf"^the array has a sample rate of {rate!r} Hz; {limits}$"):
        read(speech.samples, source_rate=rate)


def test_tensors_are_arrays():
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(read(torch.from_numpy(tone(0.1))).samples, tone(0.1))


def test_reading_does_not_touch_the_array_given():
    wave = tone(0.1)
    read(wave), audio.normalize_volume(wave), audio.peak_normalize(wave), audio.to_pcm16(wave)
    np.testing.assert_array_equal(wave, tone(0.1))


# What is refused


def test_missing_and_directory(tmp_path):
    with pytest.raises(CloningError, match=r"^no such file: .*nowhere\.wav$"):
        read(tmp_path / "nowhere.wav")
    with pytest.raises(CloningError, match="is a directory; give an audio file$"):
        read(str(tmp_path))


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="everything is readable to an administrator")
def test_file_without_permission(tmp_path):
    path = tmp_path / "secret.wav"
    path.write_bytes(encoded(tone(1)))
    path.chmod(0)
    with pytest.raises(CloningError, match="cannot read .*secret.wav: Permission denied"):
        read(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(0), "the array is empty"),
        (np.zeros((0, 2)), "the array is empty"),
        (np.zeros((2, 0), np.int16), "the array is empty"),
        (np.zeros((2, 3, 4)), r"the array has shape \(2, 3, 4\)"),
        (np.zeros(9, np.complex64), "the array is of type complex64"),
        (np.zeros(9, np.int64), "the array is of type int64; give floats in"),
        (np.full(9, np.nan), "the array holds 9 samples that are NaN"),
        (np.full((9, 2), [0.0, np.inf]), "the array holds 9 samples that are NaN or infinite, the first at 0.00 s"),
        (np.full(9, 32767.0), r"the array has samples up to 32767; floats lie in \[-1, 1\]: scale them down"),
        (tone(3), r"the array is 3 s long; at most 2 s is read"),
    ],
)
def test_bad_arrays_are_refused(array, message):
    with pytest.raises(CloningError, match=message):
        read(array, max_seconds=2)


def test_a_file_open_as_text_and_other_things(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("words", encoding="utf-8")
    with path.open(encoding="utf-8") as file, pytest.raises(CloningError, match="open it with mode 'rb'"):
        read(file)
    with pytest.raises(TypeError, match="not int"):
        read(7)


# What is done to samples


def test_volume_as_recorded(shared_golden):
    recorded = np.load(shared_golden / "encoder.npz")
    wave = recorded["short_noise/wav"][:100]
    count = sum(key.endswith("_args") for key in recorded.files)
    assert count >= 6
    for i in range(count):
        target, increase_only, decrease_only = recorded[f"normalize/{i}_args"]
        if decrease_only:
            continue
        ours = audio.normalize_volume(wave, float(target), bool(increase_only))
        np.testing.assert_allclose(ours, recorded[f"normalize/{i}"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("clip", ["p240", "p260"])
def test_resampling_as_recorded(shared_golden, clip):
    ours = read(shared_golden / "clips" / f"{clip}_24k.wav")
    recorded = read(shared_golden / "clips" / f"{clip}.wav")
    assert len(ours) == len(recorded)
    np.testing.assert_allclose(ours.samples, recorded.samples, atol=2 / 32768)


@settings(deadline=None)
@given(waves.filter(lambda w: np.square(w, dtype=np.float64).mean() > 1e-8 if len(w) else False), st.floats(-60, 0))
def test_volume_reaches_the_target_from_either_side(wave, target):
    both = audio.normalize_volume(wave, target, increase_only=False)
    assert audio.dbfs(both) == pytest.approx(target, abs=1e-3) and both.dtype == np.float32
    assert audio.dbfs(audio.normalize_volume(wave, target)) == pytest.approx(max(target, audio.dbfs(wave)), abs=1e-3)
    assert np.abs(audio.peak_normalize(wave, 0.9)).max() == pytest.approx(0.9, rel=1e-5)


def test_silence_stays_silence():
    for silence in (np.zeros(100, np.float32), np.zeros(0, np.float32)):
        assert audio.dbfs(silence) == -math.inf
        np.testing.assert_array_equal(audio.normalize_volume(silence), silence)
        np.testing.assert_array_equal(audio.peak_normalize(silence), silence)


@settings(deadline=None)
@given(st.integers(1, 3000), st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]))
def test_resampled_length(samples, rate):
    assert len(audio.resample(np.zeros(samples, np.float32), rate, 16000)) == math.ceil(samples * 16000 / rate)


def test_resampling_keeps_a_tone_and_removes_what_does_not_fit():
    up_and_down = audio.resample(audio.resample(tone(1), 16000, 48000), 48000, 16000)
    np.testing.assert_allclose(up_and_down[200:-200], tone(1)[200:-200], atol=1e-3)
    assert audio.dbfs(audio.resample(tone(1, 48000, 12000), 48000, 16000)[200:-200]) < -100
    stereo = audio.resample(np.stack([tone(1), -tone(1)], axis=1), 16000, 8000)
    np.testing.assert_allclose(stereo[:, 0], -stereo[:, 1], atol=1e-6)


def test_pcm16_rounds_half_to_even_and_cuts_off():
    wave = np.array([0, 1, -1, 1.5, -1.5, 0.5 / 32767, 1.5 / 32767, -0.5 / 32767], np.float32)
    assert audio.to_pcm16(wave).tolist() == [0, 32767, -32767, 32767, -32768, 0, 2, 0]


def test_pcm16_there_and_back():
    pcm = np.arange(-32768, 32768).astype(np.int16)
    wave = audio.from_pcm16(pcm)
    np.testing.assert_array_equal(audio.from_pcm16(torch.from_numpy(pcm)).numpy(), wave)
    assert wave.dtype == np.float32 and wave[-1] == 1 and wave[1] == -1
    np.testing.assert_array_equal(audio.to_pcm16(wave), pcm)


@settings(deadline=None)
@given(waves.filter(len))
def test_a_written_wav_comes_back_within_a_step(wave):
    copy = read(Waveform(wave, 16000).wav_bytes())
    np.testing.assert_allclose(copy.samples, wave, atol=1.51 / 32768)


# The object itself


def test_waveform_is_mono_float32_and_shows_itself():
    wav = Waveform([0.0, 0.5, -0.25, 0.0] * 4000, 16000)
    assert wav.samples.dtype == np.float32 and len(wav) == 16000 and wav.seconds == 1.0
    assert repr(wav) == "Waveform(1.00 s, 16000 samples at 16000 Hz, peak 0.50, -11.1 dBFS)"
    html = wav._repr_html_()
    assert html.startswith('<audio controls src="data:audio/wav;base64,UklGR') and "1.00 s" in html
    assert repr(Waveform(np.zeros(0), 16000)) == "Waveform(0.00 s, 0 samples at 16000 Hz, peak 0.00, -inf dBFS)"
    for samples, rate in ((np.zeros((2, 9)), 16000), (np.zeros(9), 0)):
        with pytest.raises(ValueError, match="a waveform is mono|sample_rate is 0"):
            Waveform(samples, rate)


def test_importing_is_light():
    """Training needs neither soxr nor webrtcvad; nobody needs librosa or scipy to read a file."""
    code = (
        "import sys, utils.audio.io, utils.audio.vad; bad = {'soundfile', 'soxr', 'webrtcvad', 'librosa', 'scipy',"
        " 'torch'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=600)


def test_torchaudio_loads_beside_any_torch():
    if find_spec("torchaudio") is None:
        pytest.skip("torchaudio is not installed")
    import torch

    from utils.audio.torchaudio_compat import import_torchaudio

    torchaudio = import_torchaudio()
    assert import_torchaudio() is torchaudio
    assert torchaudio.functional.resample(torch.zeros(100), 2, 1).shape == (50,)
