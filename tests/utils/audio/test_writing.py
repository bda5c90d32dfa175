"""Writing audio: what was asked for is in the file, whole or not at all."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tests.conftest import SAMPLES
from tests.support.sounds import correlation, tone
from utils.audio.io import Waveform, amplified, encode, read, resample, write
from utils.errors import CloningError

SUFFIXES = {".wav": 1e-4, ".flac": 1e-4, ".ogg": 0.05, ".opus": 0.05, ".mp3": 0.05}  # and how far a copy is off


@pytest.fixture(scope="session")
def speech(data_dir) -> Waveform:
    return read(SAMPLES / "goforward.wav")


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
