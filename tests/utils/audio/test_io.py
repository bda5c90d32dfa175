"""Reading and writing audio: every format in, one waveform out; every kind of bad audio, one line that says why."""

from __future__ import annotations

import errno
import io
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.conftest import SAMPLES
from utils.audio import io as audio
from utils.audio.io import Waveform, amplified, encode, read, resample, write
from utils.errors import CloningError

SUFFIXES = {".wav": 1e-4, ".flac": 1e-4, ".ogg": 0.05, ".opus": 0.05, ".mp3": 0.05}  # and how far a copy is off
floats = st.floats(-1, 1, width=32)
waves = arrays(np.float32, st.integers(0, 500), elements=floats)


@pytest.fixture(scope="session")
def speech(data_dir) -> Waveform:
    return read(SAMPLES / "goforward.wav")


def encoded(samples: np.ndarray, rate: int = 16000, **options) -> bytes:
    """The bytes of an audio file, wav of floats unless said."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **{"format": "WAV", "subtype": "FLOAT", **options})
    return buffer.getvalue()


def tone(seconds: float, rate: int = 16000, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    length = min(len(a), len(b))
    return float(np.corrcoef(a[:length], b[:length])[0, 1])


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
        (np.zeros((2, 3, 4)), r"the array has shape \(2, 3, 4\)"),
        (np.zeros(9, np.complex64), "the array is of type complex64"),
        (np.zeros(9, np.int64), "the array is of type int64; give floats in"),
        (np.full(9, np.nan), "the array holds 9 samples that are NaN"),
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
        ours = audio.normalize_volume(wave, float(target), bool(increase_only), bool(decrease_only))
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
    quieter = audio.normalize_volume(wave, target, increase_only=False, decrease_only=True)
    assert audio.dbfs(quieter) == pytest.approx(min(target, audio.dbfs(wave)), abs=1e-3)
    assert np.abs(audio.peak_normalize(wave, 0.9)).max() == pytest.approx(0.9, rel=1e-5)


def test_silence_stays_silence():
    for silence in (np.zeros(100, np.float32), np.zeros(0, np.float32)):
        assert audio.dbfs(silence) == -math.inf
        np.testing.assert_array_equal(audio.normalize_volume(silence), silence)
        np.testing.assert_array_equal(audio.peak_normalize(silence), silence)
    with pytest.raises(ValueError, match="exclude each other"):
        audio.normalize_volume(tone(0.1), -30, True, True)


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
    assert wave.dtype == np.float32 and wave[-1] == 1 and wave[1] == -1
    np.testing.assert_array_equal(audio.to_pcm16(wave), pcm)


@settings(deadline=None)
@given(waves.filter(len))
def test_a_written_wav_comes_back_within_a_step(wave):
    copy = read(Waveform(wave, 16000).wav_bytes())
    np.testing.assert_allclose(copy.samples, wave, atol=1.51 / 32768)


# What is written


def test_peaks_over_one_are_scaled_down_not_cut(tmp_path):
    wave = tone(0.1) * 5
    copy = read(write(tmp_path / "loud.wav", Waveform(wave, 16000))).samples
    np.testing.assert_allclose(copy, wave / np.abs(wave).max(), atol=1e-4)


@pytest.mark.parametrize(
    ("suffix", "bits", "subtype", "step"),
    [
        (".wav", None, "PCM_16", 2**-15), (".wav", "16", "PCM_16", 2**-15), (".wav", "24", "PCM_24", 2**-23),
        (".wav", "float", "FLOAT", 0), (".flac", "16", "PCM_16", 2**-15), (".flac", "24", "PCM_24", 2**-23),
    ],
)  # fmt: skip
def test_bits_are_what_was_asked_for(tmp_path, suffix, bits, subtype, step):
    wave = 0.7 * tone(0.5)
    path = write(tmp_path / f"a{suffix}", Waveform(wave, 16000), metadata={"comment": "synthetic"}, bits=bits)
    with soundfile.SoundFile(path) as file:
        assert file.subtype == subtype and file.comment == "synthetic"
        np.testing.assert_allclose(file.read(dtype="float64"), wave, rtol=0, atol=1.01 * step)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rate", [8000, 24000, 48000])
def test_a_rate_that_was_asked_for(tmp_path, speech, suffix, rate):
    path = write(tmp_path / f"a{suffix}", speech, sample_rate=rate)
    copy = read(path, sample_rate=None)
    assert copy.sample_rate == rate and copy.seconds == pytest.approx(speech.seconds, abs=2 / 16000)
    lowest = resample(resample(speech.samples, 16000, 8000), 8000, 16000)
    assert correlation(resample(copy.samples, rate, 16000)[: len(lowest)], lowest) > 0.9


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_program_reads_sound_and_tags(tmp_path, speech, suffix):
    """FFmpeg's libraries, as ffprobe has them."""
    path = write(tmp_path / f"a{suffix}", speech, metadata={"comment": "synthetic speech; seed 1"})
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        tags = {**file.metadata, **stream.metadata}
        assert "synthetic speech; seed 1" in {name.lower(): text for name, text in tags.items()}["comment"]
        samples = sum(frame.samples for frame in file.decode(stream))
        assert samples / stream.rate == pytest.approx(speech.seconds, abs=0.15)  # codecs have a delay


@pytest.mark.parametrize(
    ("name", "bits", "rate", "message"),
    [
        ("a.mp3", "16", None, r"a\.mp3: 16 bits are asked for; \.mp3 has none to choose"),
        ("a.flac", "float", None, r"float bits are asked for; \.flac has 16, 24"),
        ("a.wav", "12", None, r"12 bits are asked for; \.wav has 16, 24, float"),
        ("a.wav", None, 7999, r"a rate of 7999 Hz; it must be 8000 to 192000"),
        ("a.flac", None, 10**9, r"a rate of 1000000000 Hz; it must be"),
        ("a.mp3", None, 96000, r"a rate of 96000 Hz; \.mp3 has 8000, 11025"),
        ("a.opus", None, 44100, r"a rate of 44100 Hz; \.opus has 8000, 12000, 16000, 24000, 48000"),
    ],
)
def test_a_format_that_is_not_there(tmp_path, name, bits, rate, message):
    with pytest.raises(CloningError, match=message):
        write(tmp_path / name, Waveform(tone(0.1), 16000), bits=bits, sample_rate=rate)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pieces_make_the_file_that_the_whole_makes(speech, suffix):
    files = []
    for pieces in ([speech.samples], np.array_split(speech.samples, 5)):
        file = io.BytesIO()
        encode(file, f"a{suffix}", pieces, 16000)
        files.append(soundfile.read(io.BytesIO(file.getvalue()))[0])
    np.testing.assert_allclose(*files, rtol=0, atol=1e-3)  # the beginning of Vorbis depends on its first block


def test_a_rate_that_mp3_lacks_becomes_its_highest(tmp_path):
    assert read(write(tmp_path / "a.mp3", Waveform(tone(1, 96000), 96000)), sample_rate=None).sample_rate == 48000


def test_louder_by_decibels():
    wave = Waveform(tone(0.5) * 0.1, 16000)
    assert amplified(wave, 0) is wave
    assert amplified(wave, -6).dbfs == pytest.approx(wave.dbfs - 6, abs=1e-3)
    assert amplified(wave, 40).peak > 1


def test_long_vorbis_is_written(tmp_path):
    assert read(write(tmp_path / "long.ogg", Waveform(np.zeros(3_000_000), 16000))).seconds == pytest.approx(187.5)


def test_opus_of_a_rate_it_does_not_know(tmp_path):
    assert read(write(tmp_path / "a.opus", Waveform(tone(1, 22050), 22050))).seconds == pytest.approx(1, abs=0.01)


def test_writing_makes_folders_and_replaces_whole(tmp_path, speech):
    path = write(tmp_path / "new" / "folder" / "Ä ñ.wav", speech)
    write(path, Waveform(tone(1), 16000))
    assert read(path).seconds == 1
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode, "others may read it as any new file"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_what_was_there(tmp_path, speech, monkeypatch, suffix, capfd):
    path = write(tmp_path / f"a{suffix}", speech)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(
        CloningError, match=r"^cannot write .*: No space left on device \([0-9.]+ MiB free\); make room"
    ):
        write(path, Waveform(tone(1), 16000))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants a device that is always full")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_device_that_is_full_ends_in_one_line(tmp_path, speech, monkeypatch, suffix, capfd):
    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: real(Path("/dev/full"), data))
    with pytest.raises(CloningError, match="No space left on device"):
        write(tmp_path / f"a{suffix}", speech)
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "wave", "metadata", "message"),
    [
        ("a.m4a", tone(0.1), {}, r"a\.m4a: cannot write \.m4a; use \.wav, \.flac, \.ogg, \.opus, \.mp3"),
        ("a", tone(0.1), {}, "cannot write a file without suffix"),
        ("a.wav", tone(0.1), {"mood": "x"}, r"unknown metadata \['mood'\] for .*; known are title, comment"),
        ("a.wav", tone(0.1) * np.nan, {}, "what is to be written to .* holds 1600 samples that are NaN"),
        ("file/a.wav", tone(0.1), {}, r"cannot write .*a\.wav: its folder is a file"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, wave, metadata, message):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CloningError, match=message):
        write(tmp_path / name, Waveform(wave, 16000), metadata=metadata)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


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
