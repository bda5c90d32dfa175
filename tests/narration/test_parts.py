"""Parts: made once, joined without holding them all, each where a period of the watermark begins."""

from __future__ import annotations

import errno
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from narration.parts import LEVEL, Part, Parts, join, key_of, level_matched
from utils.audio import io as audio
from utils.audio.io import Waveform
from utils.audio.watermark import PERIOD, detect, mark
from utils.errors import CloningError
from utils.voice import Voice

RATE = 16_000


def sound(seconds: float, seed: int = 0, gain: float = 0.1, rate: int = RATE) -> Waveform:
    return Waveform(gain * np.random.default_rng(seed).normal(size=round(seconds * rate)).astype(np.float32), rate)


@pytest.fixture
def parts(tmp_path) -> Parts:
    return Parts(tmp_path / "a.wav.parts")


def kept(parts: Parts, number: int, wav: Waveform, key: str = "0" * 16):
    return parts.keep(Part(number, key, lambda: wav))


def test_a_part_is_made_once_for_a_key_and_kept_to_the_bit(parts):
    wav = sound(0.5)
    path, new = kept(parts, 3, wav)
    assert new and parts.find(3) == path and parts.find(1) is None
    assert parts.keep(Part(3, "0" * 16, lambda: pytest.fail("it is there"))) == (path, False)
    np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0], wav.samples)
    other, new = kept(parts, 3, wav, "1" * 16)
    assert new and parts.find(3) == other and not path.exists()


def test_others_files_in_the_folder_stay(parts):
    kept(parts, 1, sound(0.1))
    (parts.folder / "mine.wav").write_bytes(b"x")
    parts.remove()
    assert [path.name for path in parts.folder.iterdir()] == ["mine.wav"]


def test_parts_begin_with_a_period_and_do_not_depend_on_those_before(parts, tmp_path):
    waves = [sound(0.7, 1), sound(1.1, 2), sound(0.3, 3)]
    made = [(kept(parts, i, wav)[0], pause) for i, (wav, pause) in enumerate(zip(waves, (0.5, 0.0, 9), strict=True))]
    seconds = join(made, tmp_path / "a.wav", {"comment": "synthetic"}, bits="float")
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert len(samples) == round(seconds * RATE)
    starts = [0, 5 * PERIOD, 10 * PERIOD]  # 0.7 + 0.5 s are 4.7 periods; 1.1 s are 4.3
    for start, wav in zip(starts, waves, strict=True):
        np.testing.assert_array_equal(samples[start : start + len(wav)], wav.samples)
    assert len(samples) == starts[2] + len(waves[2]), "no silence after the last"
    assert not samples[len(waves[0]) : starts[1]].any()


def test_marks_of_parts_count_together(parts, tmp_path):
    waves = [sound(1.3, seed) for seed in range(40)]
    made = [(kept(parts, i, Waveform(mark(wav.samples, RATE), RATE))[0], 0.45) for i, wav in enumerate(waves)]
    join(made, tmp_path / "a.wav", {})
    joined = soundfile.read(tmp_path / "a.wav")[0]
    anywhere = [piece for i, wav in enumerate(waves) for piece in (mark(wav.samples, RATE), np.zeros(7000 + 37 * i))]
    assert detect(joined, RATE).found and not detect(np.concatenate(anywhere), RATE).found


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_any_format_rate_and_volume(parts, tmp_path, suffix):
    made = [(kept(parts, i, sound(0.5, i))[0], 0.2) for i in range(3)]
    seconds = join(made, tmp_path / f"a{suffix}", {"comment": "synthetic"}, volume=-6.0206, sample_rate=24_000)
    with soundfile.SoundFile(tmp_path / f"a{suffix}") as file:
        assert file.samplerate == 24_000 and file.comment == "synthetic"
        assert file.frames / 24_000 == pytest.approx(seconds, abs=0.1) == pytest.approx(1.8, abs=0.3)
    if suffix == ".wav":
        level = audio.dbfs(soundfile.read(tmp_path / "a.wav")[0][: 24_000 // 2])
        assert level == pytest.approx(-26, abs=2.5)  # half of 0.1, less what lies above 12 kHz


def test_loud_parts_are_scaled_down_together(parts, tmp_path):
    made = [(kept(parts, 1, sound(0.5, 1, 0.1))[0], 0.0), (kept(parts, 2, sound(0.5, 2, 0.5))[0], 0.0)]
    join(made, tmp_path / "a.wav", {}, volume=20, bits="float")
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert np.abs(samples).max() == pytest.approx(1, abs=1e-3)
    assert samples[PERIOD * 2] != 0 and audio.dbfs(samples[:8000]) < audio.dbfs(samples[-8000:]) - 10


def test_memory_is_that_of_one_part(parts, tmp_path):
    def peak(count: int) -> int:
        made = [(kept(parts, i, sound(4.0, i))[0], 0.1) for i in range(count)]
        join(made, tmp_path / "a.wav", {}, sample_rate=24_000)  # what is loaded once
        tracemalloc.start()
        join(made, tmp_path / "a.wav", {}, sample_rate=24_000)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(12) < 1.3 * peak(2)


def test_levels_are_matched():
    for gain in (0.001, 0.05, 0.3):
        speech = sound(1.0, 1, gain)
        quiet = Waveform(np.concatenate([speech.samples, np.zeros(RATE, np.float32)]), RATE)
        for wav in (speech, quiet):
            made = level_matched(wav)
            assert audio.dbfs(made.samples[:RATE]) == pytest.approx(LEVEL, abs=0.5) and made.peak <= 0.96
    click = Waveform(np.eye(1, 8000, 100)[0] * 0.01, RATE)
    assert level_matched(click).peak == pytest.approx(0.95, abs=1e-3)
    for silence in (Waveform(np.zeros(100), RATE), Waveform(np.zeros(0), RATE), Waveform(np.zeros(RATE), RATE)):
        assert not level_matched(silence).samples.any()


def test_a_key_changes_with_whatever_it_is_made_of():
    voice = Voice(np.array([0.6, 0.8], np.float32), prompt=np.zeros((3000, 4), np.float32))
    longer = replace(voice, prompt=np.concatenate([np.zeros((1500, 4)), np.ones((1, 4)), np.zeros((1499, 4))]))
    facts = [
        (voice, "a", {"seed": 1}), (voice, "b", {"seed": 1}), (voice, "a", {"seed": 2}), (voice, "a", {"seed": "1"}),
        (longer, "a", {"seed": 1}), (voice, ["a"], {"seed": 1}), (voice, "a", {"seed": 1, "rate": 1.0}),
    ]  # fmt: skip
    keys = [key_of(*fact) for fact in facts]
    assert len(set(keys)) == len(keys) and key_of(*facts[0]) == keys[0]


def test_what_no_wav_header_can_tell_is_written_as_rf64(parts, tmp_path, monkeypatch):
    """The limit is 4 GiB; here it is three seconds."""
    made = [(kept(parts, number, sound(1.0, number))[0], 0.5) for number in range(2)]
    monkeypatch.setattr(audio, "_LARGEST_WAV", 3 * 2 * RATE)
    join(made[:1], tmp_path / "short.wav", {})
    seconds = join(made, tmp_path / "long.wav", {"comment": "synthetic"}, bits="16")
    assert soundfile.info(tmp_path / "short.wav").format == "WAV"
    with soundfile.SoundFile(tmp_path / "long.wav") as file:
        assert (file.format, file.comment) == ("RF64", "synthetic")
    assert audio.read(tmp_path / "long.wav").seconds == seconds


def test_a_damaged_part_and_a_full_disk_are_one_line(parts, tmp_path, monkeypatch):
    path, _ = kept(parts, 1, sound(5.0))
    target = tmp_path / "out" / "a.wav"

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    encode = audio.encode

    def on_full_disk(file, *rest):
        file._file = Full(file._file)
        return encode(file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(audio, "encode", on_full_disk)
        with pytest.raises(CloningError, match="cannot write .* make room there"):
            join([(path, 0.0)], target, {})
    assert not list(target.parent.iterdir())
    path.write_bytes(b"no sound")
    with pytest.raises(CloningError, match="damaged .* remove it"):
        join([(path, 0.0)], target, {})
