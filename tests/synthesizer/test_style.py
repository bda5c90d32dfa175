"""What marks do to the sound: pauses, pace, pitch and level of the words they are around."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthesizer.models.style import change_level, scale_durations, shift_pitch
from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from utils.audio.io import dbfs
from utils.audio.mel import SYNTHESIZER_MEL
from voice_cloner import VoiceCloner

CLIP = ROOT / "samples" / "austen_0890.wav"


@pytest.fixture(scope="module")
def cloner():
    return VoiceCloner.load(device="cpu", watermark=False)


def lasts(cloning, word: str) -> float:
    return next(w.stop - w.start for w in cloning.times.words if w.text == word)


def test_styles_change_what_they_say_and_nothing_else():
    durations, prosody = torch.full((1, 4), 2.0), torch.zeros(1, 4, 3)
    prosody[..., 2] = 1
    style = torch.tensor([[[1.0, 0, 0], [0.5, 12, 10], [2.0, -6, 0], [1.0, 0, 0]]])
    torch.testing.assert_close(
        torch.expm1(scale_durations(durations, style)) / torch.expm1(durations), 1 / style[..., 0]
    )
    torch.testing.assert_close(shift_pitch(prosody, 0.5, style)[..., 1], torch.tensor([[0.5, 1.5, 0.0, 0.5]]))
    index = torch.arange(4).repeat_interleave(20)[None]
    mels = change_level(torch.zeros(1, 80, 80), index, style, SYNTHESIZER_MEL)
    torch.testing.assert_close(mels[0, 0, [10, 30, 50]], torch.tensor([0.0, 0.8, 0.0]))
    assert scale_durations(durations, None) is durations and shift_pitch(prosody, 0, None) is prosody


def test_a_break_lasts_as_long_as_it_says_whatever_the_rate(cloner):
    for rate in (1.0, 1.6):
        text = 'Good morning <break time="1.2s"/> to you all.'
        words = cloner.clone(CLIP, text, seed=1, rate=rate, pause=0.5).times.words
        assert words[2].start - words[1].stop == pytest.approx(1.2, abs=0.02)


def test_a_marked_word_is_slower_and_the_others_are_as_they_were(cloner):
    as_it_is = cloner.clone(CLIP, "I saw the lighthouse yesterday.", seed=1)
    marked = cloner.clone(CLIP, 'I saw the <prosody rate="50%">lighthouse</prosody> yesterday.', seed=1)
    assert lasts(marked, "lighthouse") == pytest.approx(2 * lasts(as_it_is, "lighthouse"), rel=0.1)
    assert lasts(marked, "saw") == pytest.approx(lasts(as_it_is, "saw"), abs=0.02)
    assert [p.text for p in marked.pieces] == [p.text for p in as_it_is.pieces]


def test_a_marked_word_is_louder_by_what_it_says(cloner):
    sounds = []
    for volume in ("+0dB", "-9dB"):
        text = f'I saw the <prosody volume="{volume}">lighthouse</prosody> yesterday.'
        cloning = cloner.clone(CLIP, text, seed=1)
        word = next(w for w in cloning.times.words if w.text == "lighthouse")
        middle = slice(round((word.start + 0.08) * 16000), round((word.stop - 0.08) * 16000))
        sounds.append(cloning.audio.samples[middle])
    assert dbfs(sounds[0]) - dbfs(sounds[1]) == pytest.approx(9, abs=1.5)


def test_plain_text_and_marks_that_change_nothing_sound_the_same(cloner):
    one = cloner.clone(CLIP, "Hello there.", seed=1).audio.samples
    for text in ("<speak>Hello there.</speak>", '<prosody rate="medium">Hello</prosody> there.'):
        np.testing.assert_array_equal(cloner.clone(CLIP, text, seed=1).audio.samples, one)


@pytest.mark.parametrize("model", ["tacotron", "transformer"])
def test_a_synthesizer_that_plans_no_prosody_says_so_and_speaks(tmp_path, model):
    cloner = VoiceCloner.load(save_tiny_models(tmp_path, model), device="cpu")
    cloning = cloner.clone(CLIP, 'Hello <emphasis>dear</emphasis> <break time="1s"/> friend.', seed=1)
    assert any("plans no prosody" in note for note in cloning.notes) and len(cloning.pieces) == 2
