"""Scripts, long texts and tables, through the command line: what is made is kept, a stopped run goes on."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

import demo_cli
from narration import speak
from tests.conftest import SAMPLES
from tests.support.tiny import save_tiny_models
from utils.audio.watermark import PERIOD
from utils.library import Library
from voice_cloner import VoiceCloner

pytestmark = pytest.mark.slow

CLIP = str(SAMPLES / "austen_0890.wav")
PLAY = "[ann] Hello there.\n[ben] Hello.\n[pause 0.5]\n[ann] How are you today?\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = save_tiny_models(tmp_path_factory.mktemp("models"))
    cloner = VoiceCloner.load(folder, device="cpu")
    library = Library(folder / "voices")
    for name, clip in {"ann": CLIP, "ben": SAMPLES / "austen_0870.wav"}.items():
        library.save(name, cloner.embed_voice(clip), consent="a sample")
    return folder


@pytest.fixture
def run(models, tmp_path, capsys, monkeypatch):
    """run(*arguments) -> (exit code, stdout, stderr), in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str):
        logging.getLogger().handlers.clear()
        fixed = ["--models", str(models), "--voices", str(models / "voices"), "--device", "cpu"]
        code = demo_cli.main([*fixed, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def play(run, *arguments: str, text: str = PLAY, output: str = "play.wav"):
    Path("play.txt").write_text(text, encoding="utf-8")
    return run("--script", "play.txt", "--output", output, *arguments)


def kept() -> dict[int, tuple[str, bytes]]:
    return {int(p.name[:4]): (p.name, p.read_bytes()) for p in Path("play.wav.parts").glob("*.wav")}


def test_a_script_is_spoken_line_by_line_and_not_twice(run):
    code, out, _ = play(run, "--seed", "4")
    assert code == 0 and out.count("made") == 3 and "3 lines" in out
    lines, whole = kept(), Path("play.wav").read_bytes()
    samples, rate = soundfile.read("play.wav", dtype="float32")
    place = 0
    for number in (1, 2, 4):
        part, _ = soundfile.read(f"play.wav.parts/{lines[number][0]}", dtype="float32")
        np.testing.assert_allclose(samples[place : place + len(part)], part, atol=1e-4)
        place += len(part) + (PERIOD - len(part) % PERIOD) % PERIOD
        place += next(
            k for k in range(0, 99 * PERIOD, PERIOD) if samples[place + k : place + k + 1].any() or k > rate * 2
        )
    code, out, _ = play(run)  # with the seed of the run before
    assert out.count("kept") == 3 and "made" not in out and Path("play.wav").read_bytes() == whole
    Path("play.wav.parts").rename("elsewhere")
    assert play(run, "--seed", "4")[1].count("made") == 3 and Path("play.wav").read_bytes() == whole
    with soundfile.SoundFile("play.wav") as file:
        assert "synthetic speech" in file.comment and "seed 4" in file.comment


def test_only_what_has_changed_is_made_again(run):
    play(run, "--seed", "4")
    before = kept()
    out = play(run, text=PLAY.replace("[ben] Hello.", "[ben] Good day."))[1]
    assert out.count("made") == 1 and "line 2: made" in out
    after = kept()
    assert after[1] == before[1] and after[4] == before[4] and after[2] != before[2]
    out = play(run, text="[ann] Hello there.\n")[1]
    assert list(kept()) == [1] and "made" not in out, "lines that are gone are not kept"


def test_one_line_alone_with_a_seed_of_its_own(run):
    play(run, "--seed", "4")
    before = kept()
    assert play(run, "--only", "2", "--seed", "9")[0] == 0
    after = kept()
    assert after[1] == before[1] and after[4] == before[4] and after[2] != before[2]
    assert "made" not in play(run)[1] and kept() == after, "it stays so"
    assert play(run, "--only", "4", text=PLAY.replace("today", "now").replace("there", "here"))[0] == 0
    assert kept()[1] == after[1] and kept()[4] != after[4]


def test_a_stopped_script_goes_on(run, monkeypatch):
    play(run, "--seed", "4", output="whole.wav")
    real, count = VoiceCloner.clone, iter(range(9))

    def clone(self, *args, **how):
        if next(count) == 2:
            raise KeyboardInterrupt
        return real(self, *args, **how)

    with monkeypatch.context() as patch:
        patch.setattr(VoiceCloner, "clone", clone)
        assert play(run, "--seed", "4")[0] == 130
    assert not Path("play.wav").exists()
    out = play(run)[1]
    assert out.count("kept") == 2 and out.count("made") == 1
    assert Path("play.wav").read_bytes() == Path("whole.wav").read_bytes()


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("[eve] Hi.", [], "play.txt line 1: no voice 'eve' in"),
        ("[../ann] Hi.", [], "play.txt line 1: '../ann' cannot be a voice's name"),
        ("[ann] Hi.\n[ann|happy] Hi.", [], "(here: demo_cli.py --synthesizer parallel, of saved_models"),
        ("Hi.", [], "line 1: no voice is named: begin it with [name], or choose one for such lines (here: demo_"),
        ("", [], "nothing is said in it"),
        ("[ann] Hi.\n[ann] ...", [], "line 2: the text holds nothing that can be spoken"),
        (PLAY, ["--only", "3"], "line 3: nothing is said in it; lines that are said: 1, 2, 4"),
        (PLAY, ["--only", "4"], "not made yet: line 1, 2; make all"),
        (PLAY, ["--plot", "a.png"], "go with one text"),
        (PLAY, ["--text", "Hi."], "--text and --script exclude each other"),
        (PLAY, ["--output", "play.txt"], "cannot write .txt"),
        (PLAY, ["--voice", "henry"], "the voice was made by encoder"),
    ],
)
def test_a_script_that_cannot_be_spoken_is_one_line(run, tmp_path, text, arguments, message):
    if arguments == ["--voice", "henry"]:
        text = "Hm.\n" + text
    code, _, err = play(run, *arguments, text=text)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not Path("play.wav").exists() and not list(tmp_path.glob("*.parts/*.partial"))


LETTER = "".join(f"This is sentence number {number} of a letter that goes on. " for number in range(60))


@pytest.fixture
def long(run, monkeypatch):
    monkeypatch.setattr(demo_cli, "LONG", 500)
    monkeypatch.setattr(speak, "SECTION", 20)
    Path("t.txt").write_text(LETTER, encoding="utf-8")
    return lambda output, *more: run("--voice", "ann", "--text-file", "t.txt", "--output", output, *more)


def test_a_long_text_is_made_in_parts_and_goes_on(long, monkeypatch):
    code, out, _ = long("whole.wav", "--seed", "3")
    count = out.count("made")
    assert code == 0 and count >= 3 and "part 2, " in out
    assert sorted(p.name for p in Path().iterdir()) == ["t.txt", "whole.wav"], "nothing is left beside it"
    real, turn = VoiceCloner.clone, iter(range(9))

    def clone(self, *args, **how):
        if next(turn) == 1:
            raise KeyboardInterrupt
        return real(self, *args, **how)

    with monkeypatch.context() as patch:
        patch.setattr(VoiceCloner, "clone", clone)
        assert long("part.wav", "--seed", "3")[0] == 130 and not Path("part.wav").exists()
    out = long("part.wav")[1]
    assert out.count("kept") == 1 and out.count("made") == count - 1
    assert Path("part.wav").read_bytes() == Path("whole.wav").read_bytes()


def test_a_long_text_says_what_a_clone_of_it_says(long, models):
    long("whole.wav", "--seed", "3", "--no-watermark", "--bits", "float")
    samples, rate = soundfile.read("whole.wav", dtype="float32")
    cloner = VoiceCloner.load(models, device="cpu", watermark=False)
    whole = cloner.clone(Library(models / "voices").load("ann"), LETTER, seed=3)
    assert len(samples) / rate == pytest.approx(whole.audio.seconds, abs=2.0)
    first = cloner.clone(
        Library(models / "voices").load("ann"), list(cloner.synthesizer.sentences(LETTER))[:20], seed=3
    )
    np.testing.assert_array_equal(samples[: len(first.audio)], first.audio.samples)


def test_a_short_text_is_as_it_was(run, models, monkeypatch):
    run("--voice", "ann", "--text", "Hello there.", "--seed", "3", "--output", "a.wav", "--bits", "float")
    cloner = VoiceCloner.load(models, device="cpu")
    cloning = cloner.clone(Library(models / "voices").load("ann"), "Hello there.", seed=3)
    np.testing.assert_array_equal(soundfile.read("a.wav", dtype="float32")[0], cloning.audio.samples)


def test_a_long_text_without_words_leaves_nothing(run, monkeypatch):
    monkeypatch.setattr(demo_cli, "LONG", 5)
    code, _, err = run("--voice", "ann", "--text", "... ... ...", "--output", "a.wav")
    assert code == 2 and "nothing that can be spoken" in err and not list(Path().iterdir())


TABLE = "text,name,voice,seed,rate\nHello there.,first,ann,3,\nHow are you?,,ben,,1.2\nBye.,last.flac,,,\n"


def test_a_table_becomes_files_and_finished_ones_are_kept(run):
    Path("t.csv").write_text(TABLE, encoding="utf-8")
    code, _, err = run("--batch", "t.csv", "--output", "out", "--voice", "ann", "--seed", "1")
    assert code == 0 and err == ""
    assert sorted(p.name for p in Path("out").iterdir()) == ["0003.wav", "first.wav", "last.flac"]
    written = {path: path.read_bytes() for path in Path("out").iterdir()}
    Path("out/first.wav").unlink()
    code, out, _ = run("--batch", "t.csv", "--output", "out", "--voice", "ann", "--seed", "1")
    assert out.count("kept") == 2 and {path: path.read_bytes() for path in Path("out").iterdir()} == written


def test_json_lines_and_references_beside_the_table(run, tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "me.wav").write_bytes(Path(CLIP).read_bytes())
    rows = [{"text": "Hello.", "reference": "me.wav"}, {"text": "Bye.", "voice": "ben", "seed": 4, "name": "Ä b.mp3"}]
    (tmp_path / "tables" / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert run("--batch", "tables/t.jsonl")[0] == 0
    assert sorted(p.name for p in Path("out/batch").iterdir()) == ["0001.wav", "Ä b.mp3"]


def test_bad_rows_are_listed_and_the_others_done(run):
    rows = [
        '{"text": "Hello.", "voice": "ann", "name": "good"}', "{", "[]", '{"text": ""}', '{"text": "Hi.", "mood": "x"}',
        '{"text": "Hi.", "name": "../x"}', '{"text": "Hi.", "name": "GOOD.wav"}', '{"text": "Hi.", "seed": "one"}',
        '{"text": "Hi.", "voice": "eve"}', '{"text": "Hi."}', '{"text": "Hi.", "voice": "ann", "emotion": "sad"}',
        '{"text": "Hi.", "voice": "ann", "rate": 99}', '{"text": "Hi.", "name": "a.txt"}',
        '{"text": "...", "voice": "ann"}', '{"text": "Hi.", "voice": "ann", "reference": "b.wav"}',
        '{"text": "Hi.", "reference": "nowhere.wav"}', '{"text": "Bye.", "voice": "ann", "name": "good too"}',
    ]  # fmt: skip
    Path("t.jsonl").write_text("\n".join(rows), encoding="utf-8")
    code, _, err = run("--batch", "t.jsonl", "--output", "out")
    assert code == 2 and sorted(p.name for p in Path("out").iterdir()) == ["good too.wav", "good.wav"]
    told = err.splitlines()
    assert len(told) == len(rows) - 2 and all(line.startswith("error: t.jsonl row ") for line in told)
    said = {int(line.split("row ")[1].split(":")[0]) for line in told}
    assert said == set(range(2, len(rows)))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "", "has no column text"),
        ("t.csv", "words\nHello.", "has no column text"),
        ("t.csv", "text\n", "no rows in it"),
        ("t.csv", 'text\n"Hello', "not CSV"),
        ("t.csv", "text\nHello., and more", "row 2: it has more cells than the header"),
        ("t.jsonl", "\n", "no rows in it"),
        ("t.jsonl", "[" * 100_000, "row 1: not JSON"),
    ],
)
def test_a_table_that_is_none_is_one_line(run, name, text, message):
    Path(name).write_text(text, encoding="utf-8")
    code, _, err = run("--batch", name, "--output", "out", "--voice", "ann")
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not Path("out").exists()


def test_the_emotional_synthesizer_speaks_emotional_lines(run, tmp_path, monkeypatch):
    folder = save_tiny_models(tmp_path / "models", emotions=("neutral", "happy", "sad"))
    Path("play.txt").write_text("[ann|happy] Hello.\n[ann] Hello.\n[ann|sad] Hello.", encoding="utf-8")
    library = Library(tmp_path / "voices")
    library.save("ann", VoiceCloner.load(folder, device="cpu").embed_voice(CLIP))
    shared = ["--models", str(folder), "--voices", str(library.folder), "--script", "play.txt", "--output", "play.wav"]
    assert run(*shared, "--emotion", "happy")[0] == 0
    assert len(kept()) == 3
    Path("play.txt").write_text("[ann|cross] Hello.", encoding="utf-8")
    assert "this synthesizer knows neutral, happy, sad" in run(*shared)[2]
