"""Files as people have them: every sample that can be decoded is read, or one line says what is missing."""

from __future__ import annotations

import io
import struct
import subprocess
import sys

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT, SAMPLES
from tests.utils.audio.test_io import correlation, encoded, tone
from utils.audio.io import Waveform, read, write
from utils.errors import CloningError

SPEECH = read(SAMPLES / "goforward.wav")
FOREIGN = {  # what soundfile does not write: container and codec by FFmpeg's names
    "m4a": ("ipod", "aac"),
    "mp4": ("mp4", "aac"),
    "alac": ("ipod", "alac"),
    "aac": ("adts", "aac"),
    "webm": ("webm", "libopus"),
    "wma": ("asf", "wmav2"),
    "aiff": ("aiff", "pcm_s16be"),
    "au": ("au", "pcm_s16be"),
}


def made(kind: str, samples: np.ndarray = SPEECH.samples, rate: int = 16000) -> bytes:
    """The bytes of a file of a kind of `FOREIGN`, at 48 kHz."""
    container, codec = FOREIGN[kind]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=48000, layout="mono", bit_rate=96000)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        fitting = av.AudioResampler(
            format=stream.format, layout="mono", rate=48000, frame_size=stream.codec_context.frame_size or None
        )
        for piece in [*fitting.resample(frame), *fitting.resample(None), None]:
            out.mux(stream.encode(piece))
    return buffer.getvalue()


def flac_of_unknown_length(samples: np.ndarray) -> bytes:
    """As written to a pipe: the 36 bits of the number of samples in STREAMINFO are 0."""
    data = bytearray(encoded(samples, format="FLAC", subtype="PCM_16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def wav_of(samples: np.ndarray) -> bytes:
    return encoded(samples, subtype="FLOAT")


def with_size(wav: bytes, size: int) -> bytes:
    """A wav whose header tells that its samples are so many bytes."""
    at = wav.find(b"data") + 4
    return wav[:at] + struct.pack("<I", size) + wav[at + 4 :]


def mp3_of(samples: np.ndarray, **options) -> bytes:
    return encoded(samples, format="MP3", subtype="MPEG_LAYER_III", **options)


def without_frame_count(mp3: bytes) -> bytes:
    """Without the first frame, which holds the header with the number of frames."""
    return mp3[mp3.find(mp3[:2], 4) :]


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def with_hole(data: bytes) -> bytes:
    third = len(data) // 3
    return data[:third] + bytes(2000) + data[third + 2000 :]


def silent_film() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for frame in [av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8)), None]:
            out.mux(stream.encode(frame))
    return buffer.getvalue()


def quiet_then_loud() -> np.ndarray:
    """6 s of which the beginning needs few bits: who guesses the length from it is far off."""
    return np.concatenate([np.zeros(64000), np.random.default_rng(0).normal(0, 0.1, 32000)])


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


# What is refused


def stored(container: str, subtype: str = "PCM_16") -> bytes:
    """2 s in one of the formats that only libsndfile writes."""
    return encoded(tone(2), format=container, subtype=subtype)


def spoiled(value: float) -> np.ndarray:
    wave = tone(1)
    wave[[8000, 9000]] = value
    return wave


BAD = {
    "empty file": (lambda: b"", r"is empty \(0 bytes\); record or download it again"),
    "text": (lambda: b"Dear Sir or Madam", "is not audio that can be read; wav, flac, ogg, opus, mp3, m4a, .* are"),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(300), "is not audio that can be read"),
    "no samples": (lambda: wav_of(np.zeros(0)), "is empty: it holds no samples"),
    "truncated wav": (lambda: cut(wav_of(tone(2)), 0.5), r"is truncated: its header promises 2\.0 s, 1\.0 s is there"),
    "wav header": (lambda: wav_of(tone(2))[:30], "is truncated: the wav header is there, the samples are not"),
    "big-endian": (lambda: cut(encoded(tone(2), endian="BIG"), 0.5), r"is truncated: its header promises 2\.0 s"),
    "truncated flac": (
        lambda: cut(encoded(tone(9), format="FLAC", subtype="PCM_16"), 0.5),
        r"is truncated: its header promises 9\.0 s, [34]\.\d s is there",
    ),
    "truncated mp3": (
        lambda: cut(encoded(tone(9), format="MP3", subtype="MPEG_LAYER_III"), 0.5),
        r"is truncated: its header promises 9\.1 s, [34]\.\d s is there",
    ),
    "mp3 with a hole": (
        lambda: with_hole(mp3_of(tone(9))),
        r"is truncated: its header promises 9\.1 s, 7\.\d s is there",
    ),
    "truncated m4a": (lambda: cut(made("m4a"), 0.6), "is damaged, truncated or no audio: it cannot be decoded"),
    "truncated webm": (lambda: cut(made("webm"), 0.6), r"is truncated: its header promises 2\.\d s, 1\.\d s is there"),
    "truncated aiff": (lambda: cut(made("aiff"), 0.6), r"is truncated: its header promises 2\.\d s, 1\.\d s is there"),
    "truncated au": (lambda: cut(made("au"), 0.6), r"is truncated: its header promises 2\.\d s, 1\.\d s is there"),
    "truncated w64": (lambda: cut(stored("W64"), 0.5), r"is truncated: its header promises 2\.0 s, 1\.0 s is there"),
    "truncated caf": (lambda: cut(stored("CAF"), 0.5), r"is truncated: its header promises 2\.0 s, 0\.9 s is there"),
    "truncated alac": (
        lambda: cut(stored("CAF", "ALAC_16"), 0.5),
        r"is truncated: its header promises 2\.0 s, [01]\.\d s is there",
    ),
    "truncated sph": (lambda: cut(stored("NIST"), 0.5), r"is truncated: its header promises 2\.0 s, 1\.0 s is there"),
    "w64 header": (lambda: stored("W64")[:60], "is truncated: the w64 header is there, the samples are not"),
    "caf header": (lambda: stored("CAF")[:200], "is truncated: the caf header is there, the samples are not"),
    "second of two truncated": (
        lambda: wav_of(tone(1)) + cut(wav_of(tone(2)), 0.5),
        r", part 2 of 2, is truncated: its header promises 2\.0 s, 1\.0 s is there",
    ),
    "NaN": (lambda: wav_of(spoiled(np.nan)), r"holds 2 samples that are NaN or infinite, the first at 0\.50 s"),
    "infinite": (lambda: wav_of(spoiled(-np.inf)), r"holds 2 samples that are NaN or infinite, the first at 0\.50 s"),
    "not scaled": (lambda: wav_of(tone(1) * 32768), r"has samples up to 16384; floats lie in \[-1, 1\]"),
    "too long": (lambda: wav_of(np.zeros(48000)), r"is 3 s long; at most 2 s is read: cut out a part of it"),
    "endless": (lambda: flac_of_unknown_length(tone(20)), r"is longer than 2 s; at most 2 s is read"),
    "too long together": (lambda: wav_of(tone(1.5)) * 2, r"is 3 s long; at most 2 s is read"),
    "1 Hz": (lambda: encoded(tone(0.001), 1), "has a sample rate of 1 Hz; 1000 to 768000 Hz is understood"),
    "m4a": (lambda: b"\0\0\0\x20ftypM4A " + bytes(100), "is damaged, truncated or no audio: it cannot be decoded"),
    "aac": (lambda: b"\xff\xf1" + bytes(100), "is damaged, truncated or no audio"),
    "webm": (lambda: b"\x1a\x45\xdf\xa3" + bytes(100), "is damaged, truncated or no audio"),
    "mp3 of zeros": (lambda: b"ID3\4\0\0\0\0\0\0" + bytes(5000), "is not audio that can be read"),
    "playlist": (lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "is not audio that can be read"),
    "film without sound": (lambda: silent_film(), "holds no sound; give a recording of speech"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("given_as", ["path", "bytes", "file"])
def test_bad_audio_is_refused_in_one_line(tmp_path, what, given_as):
    make, message = BAD[what]
    path = tmp_path / "clip.wav"
    path.write_bytes(make())
    with path.open("rb") as file:
        source = {"path": path, "bytes": path.read_bytes(), "file": file}[given_as]
        limit = 2 if what in ("too long", "endless", "too long together") else 3600
        name = "the audio given as bytes" if given_as == "bytes" else str(path)
        with pytest.raises(CloningError, match=message) as error:
            read(source, max_seconds=limit)
    assert str(error.value).startswith(name) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".raw", ".RAW", ".pcm"])
def test_samples_without_a_header_are_refused_with_a_way_out(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    path.write_bytes((SPEECH.samples * 32767).astype("<i2").tobytes())
    with pytest.raises(CloningError, match=r"has no header .* convert it: ffmpeg -f s16le -ar 16000"):
        read(path)
    path.write_bytes(SPEECH.wav_bytes())
    assert len(read(path)) == len(SPEECH)


def test_decoders_say_nothing_of_their_own(tmp_path):
    """libmpg123 and FFmpeg write to the terminal where they are let."""
    mp3 = mp3_of(SPEECH.samples)
    for name, data in {"a.mp3": with_hole(mp3), "b.mp3": mp3[:3000] * 2, "c.m4a": cut(made("m4a"), 0.5)}.items():
        (tmp_path / name).write_bytes(data)
    code = (
        "import sys\nfrom utils.audio.io import read\nfrom utils.errors import CloningError\n"
        "for path in sys.argv[1:]:\n    try: read(path)\n    except CloningError: pass"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, sorted(tmp_path.iterdir()))], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


WHOLE = [
    *(
        lambda kind=kind: encoded(tone(0.2), format=kind[0], subtype=kind[1])
        for kind in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"))
    ),
    *(lambda kind=kind: made(kind, tone(0.2)) for kind in FOREIGN),
]


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_damage_ends_in_a_waveform_or_in_one_line(data):
    """Bytes changed or cut anywhere never end in another error, nor in samples that are not finite."""
    damaged = bytearray(data.draw(st.sampled_from(WHOLE))())
    for _ in range(data.draw(st.integers(0, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        wav = read(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]), max_seconds=30)
    except CloningError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(wav.samples).all() and 0 < wav.seconds <= 31
