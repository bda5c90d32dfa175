"""What is no audio, or holds less than it says, ends in one line that says what is missing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.support.sounds import (
    FOREIGN,
    SPEECH,
    cut,
    encoded,
    flac_of_unknown_length,
    made,
    mp3_of,
    silent_film,
    stored,
    tone,
    wav_of,
    with_hole,
)
from utils.audio.io import read
from utils.errors import CloningError


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
