"""Frozen lists: whole, disjoint from one another's use, found in any format; the recognizer's language model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evaluation.judges import language_model
from evaluation.judges.recognizer import normalize
from evaluation.lists.sentences import Item, SentencePlan, load_plan, sentences, shortened, spread
from evaluation.lists.trials import TrialList, find_audio, middle, pairs_of, trial_lists
from utils.audio.io import Waveform, write
from utils.errors import CloningError


def test_frozen_lists_are_whole():
    lists = {trials.name: trials for trials in trial_lists(all_lists=True)}
    sizes = {name: (len(t.utterances), len(t.speakers)) for name, t in lists.items() if t.set_aside}
    assert sizes == {
        "librispeech": (250, 6),
        "librispeech-other": (100, 10),
        "speechocean762": (1000, 125),
        "ravdess": (184, 4),
    }
    for trials in lists.values():
        assert len({stem for stem, _, _ in trials.utterances}) == len(trials.utterances)
        pairs = pairs_of(trials)
        assert pairs.targets.any() and not pairs.targets.all()
    pairs = pairs_of(lists["speechocean762"])
    assert (pairs.targets.sum(), (~pairs.targets).sum()) == (3500, 496000)


def test_target_pairs_across_sessions_only():
    utterances = (("a", "x", "1"), ("b", "x", "1"), ("c", "x", "2"), ("d", "y", "1"))
    pairs = pairs_of(TrialList("t", "", True, "across", utterances))
    found = {(r, c): bool(t) for r, c, t in zip(pairs.rows, pairs.columns, pairs.targets, strict=True)}
    assert found == {(0, 2): True, (1, 2): True, (0, 3): False, (1, 3): False, (2, 3): False}
    everything = pairs_of(TrialList("t", "", True, "all", utterances))
    assert everything.targets.sum() == 3 and len(everything.rows) == 6
    assert [tuple(s) for s in everything.speakers[~everything.targets]] == [(0, 1)] * 3


def test_read_sentences_have_another_recording_as_reference():
    content = sentences()
    voices = {voice["speaker"]: voice for voice in content["speakers"]}
    per_speaker = dict.fromkeys(voices, 0)
    read = {row["id"] for row in content["read"]}
    for row in content["read"]:
        per_speaker[row["speaker"]] += 1
        voice = voices[row["speaker"]]
        assert row["reference"] in voice["references"] and row["reference"] != row["id"]
        assert normalize(row["text"].replace("-", " ")) == row["spoken"]
        if len(voice["references"]) > 1:  # another chapter: room and day do not give the voice away
            assert row["reference"].split("-")[1] != row["id"].split("-")[1]
    assert set(per_speaker.values()) == {10}
    for voice in voices.values():
        assert not set(voice["enrolment"]) & (read | set(voice["references"]))


def test_common_sentences_are_of_every_kind():
    rows = sentences()["common"]
    kinds = [row["kind"] for row in rows]
    assert set(kinds) == {"word", "sentence", "numbers", "names", "paragraph"} and kinds.count("paragraph") == 2
    assert all(normalize(row["spoken"]) == row["spoken"] for row in rows)


def test_audio_is_found_by_stem_in_any_format(tmp_path):
    sound = Waveform(np.zeros(800, np.float32), 16_000)
    for name in ("deep/er/a.flac", "b.wav", "other/b.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, sound)
    (tmp_path / "a.txt").write_text("not audio", encoding="utf-8")
    found = find_audio(tmp_path, {"a", "b", "c"})
    assert found == {"a": tmp_path / "deep/er/a.flac", "b": tmp_path / "b.wav"}
    with pytest.raises(CloningError, match="no such folder"):
        find_audio(tmp_path / "nowhere", {"a"})


def test_a_corpus_without_the_speakers_is_refused(tmp_path):
    with pytest.raises(CloningError, match="none of the set-aside speakers"):
        load_plan(tmp_path)


def test_the_bundled_clips_make_a_plan():
    plan = load_plan(None)
    assert any(item.real for item in plan.items) and any(item.kind == "word" for item in plan.items)
    assert all(item.reference.is_file() and item.real != item.reference for item in plan.items)
    assert len(load_plan(None, limit=3).items) == 3


def test_the_middle_is_cut_from_the_middle():
    samples = np.arange(10)
    assert list(middle(samples, 4 / 10, 10)) == [3, 4, 5, 6]
    assert middle(samples, None, 10) is samples and middle(samples, 2.0, 10) is samples


def test_a_bigram_by_hand():
    model = language_model.train(["a b", "a c"], order=2)
    # unigrams: a 2, b 1, c 1, </s> 2: 6 seen, 4 kinds: (c + 4 * 1/4) / 10
    assert model[("a",)][0] == pytest.approx(0.3) and model[("b",)][0] == pytest.approx(0.2)
    # after a: two seen, two kinds: (1 + 2 * 0.2) / 4; its weight for the rest 2 / 4
    assert model[("a", "b")][0] == pytest.approx(0.35) and model[("a",)][1] == pytest.approx(0.5)
    assert language_model.probability(model, ("a",), "a") == pytest.approx(0.15)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_sum_to_one_after_every_history(order):
    model = language_model.train(["the cat sat", "the cat ran off", "a dog sat", "sat"], order=order)
    words = [gram[0] for gram in model if len(gram) == 1 and gram[0] != language_model.START]
    for history in [(), ("the",), ("cat",), (language_model.START,), ("the", "cat"), ("off", "dog")]:
        total = sum(language_model.probability(model, history[-(order - 1) :] if order > 1 else (), w) for w in words)
        assert total == pytest.approx(1), history


def test_arpa_counts_what_it_lists(tmp_path):
    model = language_model.train(["a b", "a c"], order=2)
    language_model.write_arpa(model, tmp_path / "x.lm")
    text = (tmp_path / "x.lm").read_text(encoding="utf-8")
    assert text.startswith("\\data\\\nngram 1=5\nngram 2=5\n") and text.endswith("\\end\\\n")
    assert "\n-0.4559\ta b\n" in text and "\n-0.5229\ta\t-0.3010\n" in text


def test_a_shortened_plan_keeps_kinds_and_pairs_apart():
    def item(kind: str, number: int) -> Item:
        return Item(f"{kind}{number}", "a", kind, "x", "x", Path("x"))

    kinds = {"read": 10, "word": 4, "question": 6, "statement": 6}
    plan = SentencePlan([item(kind, k) for kind, count in kinds.items() for k in range(count)], {}, [])

    def counts(**options) -> dict[str, int]:
        return dict(Counter(kept.kind for kept in shortened(plan, **options).items))

    assert counts() == kinds
    assert counts(limit=2) == {"read": 1, "word": 1, "question": 4}
    assert counts(limit=12) == {"read": 8, "word": 4, "question": 6, "statement": 6}
    assert counts(limit=3, kinds=["read"]) == {"read": 3}


def test_a_few_are_taken_from_all_over_each_list():
    items = [Item(f"{who}{k}", who, "read", "x", "x", Path("x")) for k in range(10) for who in "ab"]
    assert [item.id for item in spread(items, 4)] == ["a2", "b2", "a7", "b7"]
    assert [item.id for item in spread(items, 3)] == ["a2", "b5", "a7"]
    assert spread(items, 1)[0].id == "a5" and spread([], 3) == []
    assert spread(items, 20) == spread(items, 99) == items
