"""Times of words and phones: they are those of the samples, whatever is put between sentences or cut."""

from __future__ import annotations

import numpy as np
import pytest

from synthesizer.models.alignment_quality import AlignmentQuality
from synthesizer.models.build import NETWORKS
from synthesizer.speech import SpokenSentence, SynthesizedSentence, after
from synthesizer.text.sentences import Sentence, SpokenText
from synthesizer.times import times_of, token_path
from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from utils.audio.mel import SYNTHESIZER_MEL
from voice_cloner import VoiceCloner

CLIP = ROOT / "samples" / "austen_0890.wav"
FRAME = SYNTHESIZER_MEL.frame_seconds
TEXT = "Hello there, old friend. {G UH D} morning!"


def piece(tokens: list[str], counts: list[int], words: tuple[str, ...], level: float = 1.0) -> SynthesizedSentence:
    alignment = np.repeat(np.eye(len(tokens), dtype=np.float32), counts, axis=0)
    mel = np.full((80, len(alignment)), level, np.float32)
    mel[:, np.isin(alignment.argmax(axis=1), [i for i, t in enumerate(tokens) if t == "SIL"])] = -4.0
    return SynthesizedSentence(
        mel, alignment, "durations", " ".join(words), tokens, AlignmentQuality(1, 1, 0, 0, 1), 0, words
    )


@pytest.mark.parametrize("pause", [0.0, 0.1, 1.0])
def test_words_begin_where_their_frames_stand_in_the_whole(pause):
    tokens = ["SIL", "AA", " ", "B", "SIL", "~"]
    pieces = [piece(tokens, [9, 4, 0, 6, 8, 0], ("a", "b"), 1.0), piece(tokens, [12, 3, 0, 7, 5, 0], ("c", "d"), 2.0)]
    mels = [after(None, 0, pieces[0], SYNTHESIZER_MEL), after(pieces[0], pause, pieces[1], SYNTHESIZER_MEL)]
    whole, said = np.concatenate(mels, axis=1), Sentence(SpokenText("a b"), 0.0)
    times = times_of([SpokenSentence(said, p, m) for p, m in zip(pieces, mels, strict=True)], SYNTHESIZER_MEL)
    assert [w.text for w in times.words] == ["a", "b", "c", "d"] and len(times.phones) == 4
    for level, sentence in zip((1.0, 2.0), times.sentences, strict=True):
        spoken = np.flatnonzero(whole[0] == level)
        assert sentence.start == pytest.approx((spoken[0] - 0.5) * FRAME)
        assert sentence.stop == pytest.approx((spoken[-1] + 0.5) * FRAME)
    assert times.words[0].stop == times.words[1].start == pytest.approx(12.5 * FRAME)


def test_the_path_through_an_attention_never_goes_back_and_survives_a_glitch():
    attention = np.repeat(np.eye(5), 4, axis=0) * 0.8 + 0.04
    attention[9] = np.eye(5)[4]  # one frame that looks ahead
    attention[15] = 0.6 * np.eye(5)[0] + 0.4 * np.eye(5)[3]  # one that looks back
    np.testing.assert_array_equal(token_path(attention), np.repeat(np.arange(5), 4))


@pytest.mark.parametrize("model", NETWORKS)
def test_times_of_every_synthesizer_lie_within_its_audio_in_order(tmp_path, model):
    cloning = VoiceCloner.load(save_tiny_models(tmp_path, model), device="cpu").clone(CLIP, TEXT, seed=1)
    times = cloning.times
    assert times.seconds == pytest.approx(cloning.audio.seconds)
    assert [s.text for s in times.sentences] == [p.text for p in cloning.pieces]
    assert bool(times.phones) == (model != "tacotron")  # whose tiny one reads letters
    for spans in (times.sentences, times.words, times.phones):
        edges = [edge for span in spans for edge in (span.start, span.stop)]
        assert edges == sorted(edges) and (not edges or edges[-1] <= times.seconds)
    if model == "parallel":
        assert [w.text for w in times.words] == ["Hello", "there", "old", "friend", "{G UH D}", "morning"]
        assert all(p.stop > p.start for p in times.phones)


def test_a_forced_aligner_finds_the_words_of_the_default_weights_there():
    pytest.importorskip("pocketsphinx")
    from synthesizer.data.forced_aligner import Aligner

    cloner = VoiceCloner.load(device="cpu")
    cloning = cloner.clone(CLIP, "The quick brown fox jumps over the lazy dog. It waits by the old mill.", seed=1)
    row = Aligner()(cloning.audio.samples, " ".join(piece.text for piece in cloning.pieces))
    aligned = [start / 100 for word, start, _ in row["words"] if word]
    apart = np.abs([w.start - start for w, start in zip(cloning.times.words, aligned, strict=True)])
    assert np.mean(apart <= 0.04) >= 0.8 and apart.max() < 0.2  # measured over 43 texts by benchmarks/times.py
