"""Files as people have them: every sample that can be decoded is read."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from tests.support.sounds import (
    FOREIGN,
    SPEECH,
    correlation,
    cut,
    encoded,
    flac_of_unknown_length,
    made,
    mp3_of,
    quiet_then_loud,
    stored,
    tone,
    with_size,
    without_frame_count,
)
from utils.audio.io import Waveform, read, write
from utils.errors import CloningError

# Formats


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_telephones_and_browsers_record_is_read(tmp_path, kind):
    path = tmp_path / f"clip.{kind}"
    path.write_bytes(made(kind))
    wav = read(path)
    assert wav.sample_rate == 16000 and wav.seconds == pytest.approx(SPEECH.seconds, abs=0.1) and not wav.notes
    length = len(SPEECH)  # codecs begin some milliseconds later
    shifts = np.fft.irfft(np.fft.rfft(wav.samples, 2 * length) * np.fft.rfft(SPEECH.samples, 2 * length).conj())
    assert shifts.max() > 0.9 * np.sum(np.square(SPEECH.samples))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_of_any_rate(rate, channels):
    clip = np.repeat(tone(1, rate)[:, None], channels, axis=1)
    wav = read(encoded(clip, rate, format="MP3", subtype="MPEG_LAYER_III"))
    assert wav.seconds == pytest.approx(1, abs=0.1) and wav.dbfs == pytest.approx(-9, abs=1)


def test_a_picture_in_the_tag_is_passed_over():
    tag = b"ID3\4\0\0" + bytes([0, 0, 8, 0]) + b"\xff\xfb\x90" * 341 + b"\0"
    assert read(tag + mp3_of(SPEECH.samples)).seconds == pytest.approx(SPEECH.seconds, abs=0.1)
    assert read(tag + encoded(SPEECH.samples, format="FLAC", subtype="PCM_16")).seconds == SPEECH.seconds


def test_an_mp3_in_a_wav_is_read():
    mp3 = without_frame_count(mp3_of(SPEECH.samples))
    layout = struct.pack("<HHIIHH", 0x55, 1, 16000, 4000, 1, 0) + struct.pack("<HHIHHH", 12, 1, 2, 576, 1, 0)
    chunks = b"fmt " + struct.pack("<I", len(layout)) + layout + b"data" + struct.pack("<I", len(mp3)) + mp3
    wav = read(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks)
    assert wav.seconds == pytest.approx(SPEECH.seconds, abs=0.1)


# Files that say too little of themselves


def test_an_mp3_without_a_frame_count_is_read_whole():
    data = mp3_of(quiet_then_loud(), bitrate_mode="VARIABLE")
    assert b"Xing" in data[: data.find(data[:2], 4)]
    assert read(without_frame_count(data)).seconds == pytest.approx(6, abs=0.2)
    reverse = without_frame_count(mp3_of(quiet_then_loud()[::-1], bitrate_mode="VARIABLE"))
    assert soundfile.SoundFile(io.BytesIO(reverse)).frames < 0.7 * 96000, "the guess is too short"
    assert read(reverse).seconds == pytest.approx(6, abs=0.2)
    tagged = b"ID3\4\0\0\0\1\0\0" + bytes(16384) + data
    assert read(tagged).seconds == pytest.approx(6, abs=0.2)
    with pytest.raises(CloningError, match=r"is truncated: its header promises 6\.\d s"):
        read(cut(tagged, 0.7))


JOINED = {
    "mp3": lambda: mp3_of(SPEECH.samples),
    "ogg": lambda: encoded(SPEECH.samples, format="OGG", subtype="VORBIS"),
    "opus": lambda: encoded(SPEECH.samples, format="OGG", subtype="OPUS"),
    "flac": lambda: encoded(SPEECH.samples, format="FLAC", subtype="PCM_16"),
    "wav": SPEECH.wav_bytes,
    "m4a": lambda: made("m4a"),
    "aac": lambda: made("aac"),
    "webm": lambda: made("webm"),
    "wma": lambda: made("wma"),
    "aiff": lambda: made("aiff"),
    "au": lambda: made("au"),
}


@pytest.mark.parametrize("kind", JOINED)
@pytest.mark.parametrize("count", [2, 3])
def test_joined_files_are_read_to_the_end(kind, count):
    one, wav = JOINED[kind](), read(JOINED[kind]() * count)
    assert wav.seconds == pytest.approx(count * read(one).seconds, abs=0.1 * count)
    third = len(wav) // count
    assert correlation(wav.samples[-third:], read(one).samples) > 0.5 or kind in ("mp3", "m4a", "aac", "webm", "wma")
    assert all("recordings in one file" in note for note in wav.notes)


def test_joined_files_of_different_rates():
    both = encoded(tone(1, 8000), 8000, format="OGG", subtype="VORBIS") + encoded(
        tone(1, 48000), 48000, format="OGG", subtype="VORBIS"
    )
    wav = read(both)
    assert wav.seconds == pytest.approx(2, abs=0.01)
    np.testing.assert_allclose(wav.samples[2000:14000], tone(1)[2000:14000], atol=0.05)
    np.testing.assert_allclose(wav.samples[18000:30000], tone(1)[2000:14000], atol=0.05)
    with pytest.raises(CloningError, match=r"at most 1\.4 s is read"):
        read(both, max_seconds=1.4)


@pytest.mark.parametrize("size", [0, 4000, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_a_wav_that_was_never_finished_is_read_to_its_end(size):
    wav = read(with_size(SPEECH.wav_bytes(), size))
    np.testing.assert_array_equal(wav.samples, SPEECH.samples)
    assert len(wav.notes) == 1 and "never finished" in wav.notes[0]


@pytest.mark.parametrize(
    ("container", "place", "sizes"),
    [
        ("W64", 16, (b"\0" * 8, struct.pack("<Q", 24), b"\xff" * 8)),
        ("CAF", 4, (b"\0" * 8, struct.pack(">Q", 4), b"\xff" * 8)),
    ],
)
def test_other_recorders_that_were_cut_off_are_read_to_their_end(container, place, sizes):
    whole = stored(container)
    assert not read(whole).notes
    at = whole.find(b"data") + place
    for size in sizes:
        wav = read(whole[:at] + size + whole[at + 8 :])
        np.testing.assert_array_equal(wav.samples, read(whole).samples)
        assert len(wav.notes) == 1 and "never finished; all 2.0 s are read" in wav.notes[0]


@pytest.mark.parametrize("subtype", ["PCM_16", "ALAW", "PCM_24"])
@pytest.mark.parametrize("container", ["W64", "CAF", "NIST"])
def test_whole_ones_are_what_their_header_says(container, subtype):
    wav = read(stored(container, subtype))
    assert wav.seconds == 2 and not wav.notes


def test_a_flac_that_was_streamed_is_read_to_its_end(caplog):
    caplog.set_level("WARNING", "utils.audio.io")  # which a script in the same process may have silenced
    wav = read(flac_of_unknown_length(tone(1)))
    np.testing.assert_allclose(wav.samples, tone(1), atol=1e-4)
    assert "never finished" in wav.notes[0] and wav.notes[0] in caplog.text


def test_chunks_around_the_samples_are_no_samples():
    whole = SPEECH.wav_bytes()
    start = whole.find(b"data")
    for padding in (b"\0", b""):  # of an odd size; some writers forget it
        extra = b"LIST" + struct.pack("<I", 5) + b"INFO\0" + padding
        for data in (whole + extra, whole[:start] + extra + whole[start:] + extra if padding else whole + extra):
            wav = read(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
            assert len(wav) == len(SPEECH) and not wav.notes
    odd = bytearray(encoded(tone(0.1)[:1599], subtype="PCM_U8"))
    assert len(read(bytes(odd) + extra)) == 1599


def test_ogg_cut_short_is_used_with_a_warning(tmp_path, caplog):
    caplog.set_level("WARNING", "utils.audio.io")
    data = write(tmp_path / "speech.ogg", SPEECH).read_bytes()
    (tmp_path / "cut.ogg").write_bytes(data[: len(data) * 3 // 4])
    assert read(tmp_path / "speech.ogg").seconds > 2 and not caplog.records
    assert "cut.ogg ends without its end mark" in read(tmp_path / "cut.ogg").notes[0]
    assert "cut.ogg ends without its end mark" in caplog.text


# Channels


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_channels_out_of_phase_do_not_cancel(delay, rate):
    from utils.audio.io import resample

    left = resample(SPEECH.samples, 16000, rate)
    right = -np.roll(left, delay) * 0.8
    wav = read(encoded(np.stack([left, right], axis=1), rate))
    assert wav.dbfs == pytest.approx(SPEECH.dbfs, abs=0.1) and correlation(wav.samples, SPEECH.samples) > 0.999
    assert "out of phase" in wav.notes[0]


def test_other_channels_are_averaged():
    other = np.roll(SPEECH.samples, 9000)  # has nothing to do with the first
    for pair in ((SPEECH.samples, 0 * other), (SPEECH.samples, other), (SPEECH.samples, SPEECH.samples)):
        wav = read(encoded(np.stack(pair, axis=1)))
        np.testing.assert_allclose(wav.samples, np.mean(pair, axis=0), atol=1e-6)
        assert not wav.notes
    four = np.zeros((len(other), 4), np.float32)  # a microphone each
    for channel in range(4):
        four[channel * 8000 : (channel + 1) * 8000, channel] = other[channel * 8000 : (channel + 1) * 8000]
    np.testing.assert_allclose(read(encoded(four)).samples, four.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("offset", [0.03, -0.3])
def test_an_offset_is_removed(offset):
    quiet = SPEECH.samples * 0.1
    for source in (encoded(quiet + offset), quiet + np.float32(offset), Waveform(quiet + offset, 16000)):
        np.testing.assert_allclose(read(source).samples, quiet - quiet.mean(), atol=1e-5)
    assert read(encoded(SPEECH.samples)).samples.mean() == pytest.approx(SPEECH.samples.mean(), abs=1e-7)


def test_an_offset_that_wanders_is_removed():
    quiet = SPEECH.samples * 0.1
    wander = 0.05 * np.sin(2 * np.pi * 0.7 * np.arange(len(quiet)) / 16000)
    assert correlation(read(encoded(quiet + wander)).samples, quiet) > 0.99
