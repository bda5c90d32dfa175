"""Simulated talks hold what their turns say, their lists share nobody, and the same recipe gives the same talk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diarization.exports import silence
from evaluation.lists.simulated import (
    CHANNELS,
    NOISE_DB,
    OVERLAPS,
    PARTS,
    SimulatedCast,
    TalkRecipe,
    build_talk,
    cast_of,
    talk_recipes,
)
from utils.audio.io import Waveform, write
from utils.data.corpora import Clip

RATE = 16000
RECIPE = TalkRecipe("x", 3, 40.0, "close", 20.0, 0.2, 7)


@pytest.fixture(scope="module")
def cast(tmp_path_factory) -> SimulatedCast:
    """Voices that are tones of their own pitch: words of 0.3 s, 0.1 s apart."""
    root = tmp_path_factory.mktemp("clips")
    clips: dict[str, list[Path]] = {}
    times = {}
    for pitch in (500, 1000, 2000):
        for number in range(4):
            word = np.sin(2 * np.pi * pitch * np.arange(round(0.3 * RATE)) / RATE)
            wave = np.concatenate([0.3 * word, np.zeros(round(0.1 * RATE))] * 30)
            path = write(root / f"{pitch}-{number}.wav", Waveform(wave, RATE))
            starts = 0.4 * np.arange(30)
            times[path.stem] = np.stack([starts, starts + 0.3], axis=1)
            clips.setdefault(str(pitch), []).append(path)
    return SimulatedCast(clips, times, [])


@pytest.mark.parametrize("channel", [name for name, _ in CHANNELS])
def test_voices_are_heard_where_the_turns_are(cast, channel):
    if channel in ("near", "far"):
        pytest.importorskip("pyroomacoustics", reason="pyroomacoustics is in requirements/eval.txt")
    talk = build_talk(replace(RECIPE, channel=channel), cast)
    assert {turn.speaker for turn in talk.turns} <= set(talk.references) == set(cast.clips)
    loud, quiet = [], []
    for t in np.arange(0.2, talk.audio.seconds - 0.2, 0.13):
        piece = talk.audio.samples[round((t - 0.05) * RATE) : round((t + 0.05) * RATE)]
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece))))
        for who in cast.clips:
            level = spectrum[int(who) // 10 - 1 : int(who) // 10 + 2].max()
            if any(turn.start + 0.1 < t < turn.stop - 0.1 for turn in talk.turns if turn.speaker == who):
                loud.append(level)
            elif not any(turn.start - 0.1 < t < turn.stop + 0.8 for turn in talk.turns if turn.speaker == who):
                quiet.append(level)
    assert np.median(loud) > 5 * np.median(quiet) and min(len(loud), len(quiet)) > 20


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_overlap_is_what_was_asked_for(cast, overlap):
    talk = build_talk(replace(RECIPE, seconds=120.0, overlap=overlap), cast)
    nobody, several = silence(talk.turns, talk.audio.seconds)
    assert several / (talk.audio.seconds - nobody) == pytest.approx(overlap, abs=0.08)
    assert 0.1 < nobody / talk.audio.seconds < 0.6
    alone = build_talk(replace(RECIPE, speakers=1), cast)
    assert silence(alone.turns, alone.audio.seconds)[1] == 0


def test_nobody_speaks_twice_at_once(cast):
    for seed in range(5):
        turns = build_talk(replace(RECIPE, seed=seed), cast).turns
        for who in cast.clips:
            own = [turn for turn in turns if turn.speaker == who]
            assert all(a.stop <= b.start + 1e-6 for a, b in zip(own, own[1:], strict=False))


def test_the_same_recipe_gives_the_same_talk(cast):
    first, again, other = (build_talk(replace(RECIPE, seed=seed), cast) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.audio.samples, again.audio.samples)
    assert first.turns == again.turns != other.turns


def test_recipes_are_those_of_the_list():
    for part in PARTS:
        recipes = talk_recipes(part)
        assert recipes[:7] == talk_recipes(part, 7) and len({r.seed for r in recipes}) == 60
        assert {1, 2, 3, 4} <= {r.speakers for r in recipes} <= {1, 2, 3, 4, 5}
        assert all(20 <= r.seconds <= 600 and NOISE_DB[0] <= r.snr <= NOISE_DB[1] for r in recipes)
        assert np.median([r.seconds for r in recipes]) < 70 and {r.channel for r in recipes} == dict(CHANNELS).keys()
    assert not {r.seed for r in talk_recipes("choose")} & {r.seed for r in talk_recipes("test")}


def test_lists_share_nobody_and_leave_out_who_is_set_aside(tmp_path):
    names = [f"CommonVoice-{i:03d}" for i in range(60)] + [f"VCTK-p{i}" for i in range(9)] + ["librispeech-84"]
    clips = [
        Clip(f"{who}/{n}", who, tmp_path / who / f"{who}_{n}.wav", "x", None, "x", "x", 1.0, ())
        for who in names
        for n in range(3)
    ]
    times = {clip.path.stem: np.zeros((1, 2)) for clip in clips}
    for i in range(9):
        write(tmp_path / "noise" / "Rain" / f"{i}.wav", Waveform(np.ones(100), RATE))
    casts = [cast_of(part, clips, times, ["*-00?", "VCTK-p1"], tmp_path / "noise") for part in PARTS]
    found = [who for cast in casts for who in cast.clips]
    assert len(found) == len(set(found)) == len(names) - 11 and all(len(cast.clips) > 9 for cast in casts)
    assert not any(who.startswith("CommonVoice-00") or who == "VCTK-p1" for who in found)
    assert "librispeech-84" in casts[0].clips  # the encoder learned from the likes of it
    assert [len(cast.noises) for cast in casts] == [3, 3, 3] and len({p for c in casts for p in c.noises}) == 9
