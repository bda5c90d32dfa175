"""Alignments, preprocessing and batches of the synthesizer."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import synthesizer_preprocess
from synthesizer.config import DataConfig
from synthesizer.data import alignments as align
from synthesizer.data.dataset import SynthesisData, crop, part
from synthesizer.data.preprocess import Preprocessor, outliers, write_speaker_means
from synthesizer.data.store import pad
from synthesizer.features import LEVEL_DBFS, level, prosody, sound_bounds
from tests.conftest import SAMPLES
from tests.support.synthesizer_set import RATE, ROW, SPEAKER_SIZE, make_corpus, make_set
from utils.data import preprocess as preprocessing
from utils.data import selection
from utils.data.corpora import scan
from utils.data.manifest import Arrays, Manifest, Utterance, read_manifest
from utils.errors import CloningError
from utils.training.sampling import rng


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return make_set(tmp_path_factory.mktemp("set"))


def data(toy: Path, **changes) -> SynthesisData:
    return SynthesisData(
        read_manifest(toy), DataConfig(**{"batch_size": 3, "min_frames": 1, **changes}), "train", seed=5
    )


# -- alignments --------------------------------------------------------------------------------------------------------


def test_an_alignment_becomes_symbols_with_one_pause_or_boundary_between_words():
    found = align.symbols_of(ROW, 2.0)
    assert found.symbols == ["SIL", "S", "IY", " ", "IH", "T", ",", "N", "AW", "SIL"]
    np.testing.assert_allclose(found.edges, [0, 0.2, 0.31, 0.49, 0.49, 0.6, 0.77, 1.4, 1.6, 1.9, 2.0])


@pytest.mark.parametrize("speed", [0.9, 1.25])
def test_at_another_speed_the_same_symbols_take_another_time(speed):
    usual, found = align.symbols_of(ROW, 2.0), align.symbols_of(align.at_speed(ROW, speed), 2.0 / speed)
    assert found.symbols == usual.symbols
    np.testing.assert_allclose(found.edges, usual.edges / speed)


def test_a_silence_too_short_for_a_pause_is_given_to_the_phone_before():
    row = {
        "id": "b",
        "words": [["", 0, 9], ["it", 9, 30], ["now", 43, 57]],
        "phones": [["SIL", 0, 9], ["IH", 9, 11], ["T", 20, 20], ["SIL", 40, 3], ["N", 43, 17], ["AW", 60, 40]],
    }
    found = align.symbols_of(row, 1.0)
    assert found.symbols == ["SIL", "IH", "T", " ", "N", "AW", "SIL"]
    np.testing.assert_allclose(found.edges, [0, 0.09, 0.2, 0.43, 0.43, 0.6, 1.0, 1.0])


def test_long_pauses_and_ends_are_cut_and_durations_sum_to_the_frames():
    samples = rng(0).standard_normal(2 * RATE).astype(np.float32)
    cut, found = align.cap_silences(samples, align.symbols_of(ROW, 2.0), RATE, longest=0.3, margin=0.1)
    assert found.edges[-1] == pytest.approx(len(cut) / RATE)
    lengths = dict(zip(found.symbols, np.diff(found.edges), strict=True))
    assert lengths[","] == pytest.approx(0.29)  # 10 ms of it are cross-faded
    assert np.diff(found.edges)[0] == pytest.approx(0.1)
    for hop in (200, 137):
        frames = 1 + len(cut) // hop
        durations = align.frame_durations(found, RATE, hop, frames)
        assert durations.sum() == frames and durations.min() >= 0 and durations[3] == 0


def test_a_frame_belongs_to_the_symbol_at_its_center():
    found = align.AlignedSymbols(["A", "B", "C"], np.array([0, 0.025, 0.0376, 0.1]))
    np.testing.assert_array_equal(align.frame_durations(found, RATE, 200, 9), [2, 2, 5])  # frames at 0, 12.5, 25 ms ...


def test_sound_of_the_ends_is_found():
    samples = np.zeros(RATE, np.float32)
    samples[4000:12000] = rng(1).standard_normal(8000) * 0.1
    np.testing.assert_allclose(sound_bounds(samples, RATE), [0.25, 0.75], atol=0.011)


def test_a_damaged_alignment_file_is_one_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"x"', encoding="utf-8")
    with pytest.raises(CloningError, match="not an alignment file"):
        align.read_alignments([tmp_path / "a.jsonl"])
    with pytest.raises(CloningError, match="no such alignment file"):
        align.read_alignments([tmp_path / "b.jsonl"])


# -- preprocessing -----------------------------------------------------------------------------------------------------


def test_level_is_equal_whatever_the_recording_and_silence_is_refused():
    sound = rng(2).standard_normal(RATE).astype(np.float32)
    for gain in (0.001, 0.1):
        assert 10 * np.log10(np.mean(level(sound * gain, RATE) ** 2)) == pytest.approx(LEVEL_DBFS, abs=0.2)
    with pytest.raises(CloningError, match="silence only"):
        level(np.zeros(RATE, np.float32), RATE)


def embed(samples: np.ndarray, rate: int) -> np.ndarray:
    values = np.abs(np.fft.rfft(samples, 2 * SPEAKER_SIZE))[:SPEAKER_SIZE]
    return values / np.linalg.norm(values)


def preprocess(corpus: Path, out: Path, alignments: tuple[Path, ...]):
    clips = [clip for clip in scan(corpus).clips if clip.text]
    process = Preprocessor(embed, "phonemes", alignments)
    splits = selection.splitter({c.speaker for c in clips}, 0.5, 0)
    return preprocessing.run(
        clips, out, "synthesizer", process, assign_split=splits, header=process.header() | {"encoder": "toy"}
    )


@pytest.mark.parametrize("aligned", [True, False])
def test_a_tiny_corpus_with_a_corrupt_file(tmp_path, aligned):
    corpus = make_corpus(tmp_path)
    path = tmp_path / "alignments.jsonl"
    names = ["ann0", "ann1", "ben0", "bad"]  # ben1 could not be aligned
    path.write_text("".join(json.dumps({**ROW, "id": n}) + "\n" for n in names), encoding="utf-8")
    found = preprocess(corpus, tmp_path / "out", (path,) if aligned else ())
    assert found.header["utterances"] == (3 if aligned else 4)
    assert sum(found.header["skipped"].values()) == (2 if aligned else 1)
    assert found.header["durations"] is aligned
    write_speaker_means(found)
    assert outliers(found) == [u for u in found.utterances if u.extra["characters_per_second"] < 5]
    batches = SynthesisData(read_manifest(tmp_path / "out"), DataConfig(min_frames=1), "train")
    utterance = batches.utterances[0]
    mel, tokens = batches.mel(utterance), batches.tokens(utterance)
    assert mel.shape == (utterance.frames, 80) and tokens[-1] == 1
    assert np.linalg.norm(batches.speakers[utterance.speaker]) == pytest.approx(1, abs=1e-5)
    if aligned:
        assert batches.arrays.read(utterance, "durations").sum() == utterance.frames
    index = (tmp_path / "out" / "shards").glob("*.safetensors")
    before = {p.name: p.stat().st_mtime_ns for p in index}
    again = preprocess(corpus, tmp_path / "out", (path,) if aligned else ())  # does only what is missing
    assert again.utterances == found.utterances
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "shards").glob("*.safetensors")}


def test_transcripts_that_are_missing_or_cannot_fit_are_left_out_and_listed(tmp_path, data_dir, capsys):
    folder = tmp_path / "corpus" / "ann"
    folder.mkdir(parents=True)
    texts = {"good": "go forward ten meters", "book": "go forward ten meters " * 700, "silent": None, "odd": "three"}
    for name, text in texts.items():
        shutil.copy(SAMPLES / "goforward.wav", folder / f"{name}.wav")
        if text:
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    arguments = ["--out", tmp_path / "set", "--encoder", data_dir / "encoder_tiny.pt", "--jobs", 1, tmp_path / "corpus"]
    assert synthesizer_preprocess.main([str(a) for a in arguments]) == 0
    said = capsys.readouterr().out
    assert "left out: 1 no transcript" in said and "left out: 1 transcript does not fit" in said
    assert f"no transcript: {folder / 'silent.wav'}" in said and "book: " in said and "limits 1 and 35" in said
    assert "1 transcripts hardly fit their sound" in said  # a word in two seconds
    found = read_manifest(tmp_path / "set", "synthesizer")
    assert [u.id for u in found.utterances] == ["corpus/ann/good", "corpus/ann/odd"]
    listed = [json.loads(row)["id"] for row in (tmp_path / "set" / "skipped.jsonl").read_text().splitlines()]
    assert listed == ["corpus/ann/book", "corpus/ann/silent"]
    (folder / "silent.TXT").write_text(texts["good"], encoding="utf-8")  # a later run takes it
    assert synthesizer_preprocess.main([str(a) for a in arguments]) == 0
    assert "no transcript" not in capsys.readouterr().out


def test_the_script_on_recordings_with_a_set_aside_speaker(tmp_path, data_dir, capsys):
    for name, speaker in (("austen_0870", "ann"), ("austen_0890", "ann"), ("goforward", "ben")):
        folder = tmp_path / "corpus" / speaker
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / f"{name}.wav", folder)
        (folder / f"{name}.txt").write_text("go forward ten meters", encoding="utf-8")
    (tmp_path / "aside.txt").write_text("corpus-ben\n", encoding="utf-8")
    arguments = ["--out", tmp_path / "set", "--encoder", data_dir / "encoder_tiny.pt", "--jobs", 1, "--validation", 0]
    arguments += ["--set-aside", tmp_path / "aside.txt", tmp_path / "corpus"]
    assert synthesizer_preprocess.main([str(a) for a in arguments]) == 0
    assert "3 utterances (2 train, 1 test) of 2 speakers" in capsys.readouterr().out
    header = read_manifest(tmp_path / "set", "synthesizer").header
    assert len(header["encoder"]) == 16 and header["marks"] == "all"
    assert synthesizer_preprocess.main([str(a) for a in [*arguments, "--encoder", tmp_path / "no.pt"]]) == 2
    assert "no such checkpoint" in capsys.readouterr().err
    # a second run adds the same clips at another speed, of those that are trained on
    assert synthesizer_preprocess.main([str(a) for a in [*arguments, "--speeds", "1.25"]]) == 0
    assert "5 utterances (4 train, 1 test) of 3 speakers" in capsys.readouterr().out
    by_id = {u.id: u for u in read_manifest(tmp_path / "set").utterances}
    for id, copy in by_id.items():
        if "original" in copy.extra:
            first = by_id[copy.extra["original"]]
            assert (id, copy.speaker) == (f"{first.id}_x1.25", f"{first.speaker}_x1.25") and copy.text == first.text
            assert copy.frames == pytest.approx(first.frames / 1.25, abs=20)  # silence is trimmed to the same margin
            arrays = Arrays(tmp_path / "set")
            tracks = [arrays.read(u, "pitch").astype(float) for u in (first, copy)]
            low, high = (np.median(track[track != 0]) for track in tracks)
            assert 2 ** (high - low) == pytest.approx(1.25, rel=0.04)
    with pytest.raises(SystemExit, match="2"):
        synthesizer_preprocess.main([str(a) for a in [*arguments, "--speeds", "1"]])
    assert "factors lie in 0.5 .. 2 and are not 1" in capsys.readouterr().err


# -- batches -----------------------------------------------------------------------------------------------------------


def test_every_item_comes_once_a_round_and_the_batch_of_a_step_never_changes(toy):
    first, second = data(toy), data(toy)
    for turn in range(3):
        steps = range(1 + 2 * turn, 3 + 2 * turn)  # 8 utterances in batches of 3: two batches, two left over
        seen = [u.id for step in steps for u in first.choose(step)]
        assert len(set(seen)) == 6
    assert [u.id for u in first.choose(7)] == [u.id for u in second.choose(7)]
    a, b = (d.windows(d.choose(4), rng(1, 4), 12) for d in (first, second))
    assert all(np.array_equal(a[name], b[name], equal_nan=a[name].is_floating_point()) for name in a)


def test_a_window_is_a_piece_of_the_mel(toy):
    batches = data(toy)
    chosen = batches.choose(1)
    batch = batches.windows(chosen, rng(9), 12)
    for row, utterance in enumerate(chosen):
        start, length = int(batch["window_start"][row]), int(batch["window_lengths"][row])
        whole = batches.mel(utterance)
        np.testing.assert_array_equal(batch["mel"][row, :, :length].T, whole[start : start + length])


def test_targets_name_the_token_that_is_spoken(toy):
    batches = data(toy)
    chosen = batches.choose(2)
    batch = batches.whole(chosen, None, 2)
    assert batch["mel"].shape[2] % 2 == 0 and batch["mel"].shape[2] > max(u.frames for u in chosen)
    for row, utterance in enumerate(chosen):
        durations = batches.arrays.read(utterance, "durations")
        spoken = np.repeat(np.arange(len(durations)), durations)
        targets = batch["targets"][row].numpy()
        known = targets >= 0
        np.testing.assert_array_equal(targets[known], spoken[1::2])
        assert known.sum() == len(spoken) // 2


def test_a_crop_is_whole_words_within_the_limit():
    tokens = np.array([10, 11, 12, 7, 13, 14, 2, 15, 16, 10, 1])  # 7 a boundary, 2 a pause
    durations = np.array([4, 5, 5, 0, 6, 6, 8, 5, 5, 3, 0])
    for seed in range(20):
        first, last = crop(tokens, durations, [7, 2], 26, rng(seed))
        assert (first, last) in {(0, 3), (4, 7), (6, 10), (0, 6)}
    with_everything = {crop(tokens, durations, [7, 2], 1000, rng(seed)) for seed in range(20)}
    assert (0, 10) in with_everything


def test_cropped_parts_keep_tokens_and_frames_together(toy):
    batches = data(toy, crop=25)
    for step in range(1, 5):
        batch = batches.whole(batches.choose(step), rng(step), 1)
        for row, length in enumerate(batch["mel_lengths"]):
            assert length <= 40
            assert (batch["targets"][row, :length] >= 0).all() and (batch["targets"][row, length:] == -1).all()
            assert batch["tokens"][row, batch["token_lengths"][row] - 1] == 1


def test_embeddings_are_noisy_in_training_only_and_of_norm_1(toy):
    batches = data(toy, embedding="speaker", embedding_noise=0.2)
    utterance = batches.utterances[0]
    quiet, noisy = batches.speaker(utterance), batches.speaker(utterance, rng(1))
    assert np.linalg.norm(noisy) == pytest.approx(1, abs=1e-5)
    assert 0.9 < float(quiet @ noisy) < 0.9999
    np.testing.assert_array_equal(quiet, batches.speaker(utterance))


def test_prosody_of_tokens():
    mel = np.array([[1.0], [3.0], [5.0]], np.float32)
    found = prosody(mel, np.array([0.5, 0, 0]), np.array([2, 0, 1]))
    np.testing.assert_allclose(found, [[2, 0.5, 0.5], [0, 0, 0], [5, 0, 0]])


def test_pad_fills_up():
    assert pad([np.array([1]), np.array([2, 3])], value=9).tolist() == [[1, 9], [2, 3]]


def test_what_does_not_suit_is_one_line(toy, tmp_path):
    with pytest.raises(CloningError, match="no train utterance of 500 to 900 frames"):
        data(toy, min_frames=500)
    with pytest.raises(CloningError, match="no manifest.jsonl"):
        data(tmp_path)


# -- what is held out --------------------------------------------------------------------------------------------------


def test_some_utterances_of_speakers_with_enough_are_held_out_whoever_else_is_there():
    def manifest(*speakers: tuple[str, int, str]) -> Manifest:
        found = [Utterance(f"{s}/{i}", s, split=split) for s, count, split in speakers for i in range(count)]
        return Manifest(Path(), {}, found)

    few = manifest(("much", 30, "train"), ("little", 9, "train"), ("unseen", 3, "validation"), ("set_aside", 4, "test"))
    train, validation = part(few, "train", 2), part(few, "validation", 2)
    assert Counter(u.speaker for u in validation) == {"much": 2, "unseen": 3}
    assert Counter(u.speaker for u in train) == {"much": 28, "little": 9}
    assert not {u.id for u in train} & {u.id for u in validation}
    more = manifest(("another", 12, "train"), ("much", 30, "train"))
    assert {u.id for u in part(more, "validation", 2)} >= {u.id for u in validation if u.speaker == "much"}
    assert len(part(few, "validation", 0)) == 3 and len(part(few, "test", 2)) == 4


def test_what_is_held_out_is_not_learned_at_another_speed():
    plain = [Utterance(f"a/{i}", "a", split="train") for i in range(20)]
    copies = [Utterance(f"{u.id}_x1.1", "a_x1.1", split="train", extra={"original": u.id}) for u in plain]
    found = Manifest(Path(), {}, [*plain, *copies])
    held_out, train = part(found, "validation", 2), part(found, "train", 2)
    assert len(held_out) == 2 and {u.speaker for u in held_out} == {"a"}
    assert {u.extra["original"] for u in train if u.extra} == {u.id for u in train if not u.extra}
    assert held_out == part(Manifest(Path(), {}, plain), "validation", 2)


def test_marks_are_withheld_from_some_items_in_training_only(toy):
    def told(withheld: float, learning: bool) -> list[bool]:
        found = data(toy, punctuation_dropout=withheld, batch_size=8)
        batch = found.windows(found.choose(1), rng(1) if learning else None, 40)
        return batch["marks"].any(dim=1).tolist()

    assert all(told(0.0, True)) and not any(told(1.0, True)) and all(told(1.0, False))
    assert 0 < sum(told(0.5, True)) < 8
