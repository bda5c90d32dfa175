"""`train_all.py`: from a few made-up clips, in parts, to weights that speak; plan, resume, card."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train_all
from tests.conftest import ROOT
from tests.support.encoder_set import RATE, voice
from utils.audio.io import Waveform, write
from utils.chain.config import ChainConfig
from utils.chain.plan import Choices, Plan, Sources, Step, make_plan
from utils.chain.run import run
from utils.config import CONFIGS, load_config
from utils.errors import CloningError
from utils.weights.checkpoint import load_weights, read_header
from voice_cloner import VoiceCloner

SECONDS = 2.0
WORDS = [["", 0, 10], ["see", 10, 80], ["", 90, 20], ["bee", 110, 80], ["", 190, 10]]
PHONES = [
    ["SIL", 0, 10],
    ["S", 10, 30],
    ["IY", 40, 50],
    ["SIL", 90, 20],
    ["B", 110, 20],
    ["IY", 130, 60],
    ["SIL", 190, 10],
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("corpora") / "made"
    rows = []
    for speaker in range(6):
        for clip in range(3):
            name = f"s{speaker}_{clip}"
            write(root / f"s{speaker}" / f"{name}.flac", Waveform(voice(speaker, SECONDS, clip), RATE))
            (root / f"s{speaker}" / f"{name}.txt").write_text("SEE BEE", encoding="utf-8")
            rows.append({"id": name, "frames": int(100 * SECONDS), "score": 0.9, "words": WORDS, "phones": PHONES})
    (root / "alignments").mkdir()
    (root / "alignments" / "made.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    (root / "punctuated").mkdir()
    (root / "punctuated" / "made.tsv").write_text("s1_0\tSee? Bee.\n", encoding="utf-8")
    return root


def flags(corpora, out, *more) -> list[str]:
    fixed = ["--stages", "encoder", "synthesizer", "vocoder", "--config", "debug", "--device", "cpu", "--jobs", 1]
    fixed += ["--threads", 1, "--teacher", "none", "--no-evaluation"]
    return [str(word) for word in [*corpora, "--out", out, *fixed, *more]]


@pytest.mark.slow
def test_recordings_and_a_time_become_a_chain_that_speaks(corpus, tmp_path, capsys):
    assert train_all.main(["pack", str(corpus), "--out", str(tmp_path / "parts"), "--part-mb", "0.1"]) == 0
    parts = sorted((tmp_path / "parts").glob("*"))
    assert len(parts) > 1 and all(part.stat().st_size <= 0.1 * 2**20 for part in parts)
    capsys.readouterr()
    margin = 'encoder.settings=["loss.aam_weight=0.5"]'  # with weights that only training needs
    chain = flags(parts, tmp_path / "chain", "--minutes", 0.04, "--piece-mb", 0.2, "--set", margin)
    assert train_all.main(chain) == 0
    told = capsys.readouterr().out
    assert "made.jsonl" in told and "made.tsv" in told and "synthesizer: train (0.02 min)" in told
    models = tmp_path / "chain" / "models"
    card = (models / "MODEL_CARD.md").read_text(encoding="utf-8")
    for stage in ("encoder", "synthesizer", "vocoder"):
        header = read_header(models / f"{stage}.safetensors")
        assert header["extra"]["run"]["settings"]["data"] and header["step"] > 0 and header["fingerprint"] in card
        minutes = header["extra"]["run"]["settings"]["training"]["minutes"]
        assert minutes == pytest.approx(0.04 if stage == "vocoder" else 0.02)
    synthesizer = load_weights(models / "synthesizer.safetensors")
    assert synthesizer.extra["encoder"] == load_weights(models / "encoder.safetensors").fingerprint
    assert "python train_all.py" in card and "--minutes 0.04" in card
    # everything, in pieces
    pieces = sorted((tmp_path / "chain" / "pieces").glob("chain.tar.*"))
    assert all(piece.stat().st_size <= 0.2 * 2**20 for piece in pieces)
    (tmp_path / "whole.tar").write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    listed = subprocess.run(
        [sys.executable, "-m", "tarfile", "-l", tmp_path / "whole.tar"], capture_output=True, text=True
    )
    assert "models/synthesizer.safetensors" in listed.stdout and "models/MODEL_CARD.md" in listed.stdout
    # it speaks
    cloner = VoiceCloner.load(models)
    assert len(cloner.clone(next(corpus.rglob("*.flac")), "See bee.", seed=1).audio.samples) > 0
    # the same command has nothing left to do
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "chain" / "runs").rglob("*.safetensors")}
    assert train_all.main(chain) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "chain" / "runs").rglob("*.safetensors")}
    # another plan in the same folder is refused
    assert train_all.main(flags(parts, tmp_path / "chain", "--minutes", 9)) == 2
    assert "begun with another plan (differs in 'encoder: train')" in capsys.readouterr().err


def step(tmp_path, name: str, code: str) -> Step:
    script = tmp_path / f"{name}.py"
    script.write_text(code, encoding="utf-8")
    return Step(name, (str(script),))


def test_lanes_run_at_the_same_time_and_one_that_fails_stops_no_other(tmp_path):
    mark = "from pathlib import Path; import sys, time\n"
    wait = f"while not Path(r'{tmp_path / 'there'}').exists(): time.sleep(0.05)\n"
    first = step(tmp_path, "first", mark + wait)
    second = step(tmp_path, "second", mark + f"Path(r'{tmp_path / 'there'}').touch(); sys.exit('error: no luck')")
    never = step(tmp_path, "never", mark + f"Path(r'{tmp_path / 'never'}').touch()")
    plan = Plan(((first,), (second, never)))
    with pytest.raises(CloningError, match=r"^second failed \(no luck\): see .*second.log; the same command goes on$"):
        run(plan, tmp_path / "out")
    assert not (tmp_path / "never").exists()
    done = json.loads((tmp_path / "out" / "plan.json").read_text(encoding="utf-8"))["done"]
    assert list(done) == ["first"]


def polite(tmp_path: Path) -> Step:
    """Says that it is `up`, goes on until SIGTERM, then says `saved`."""
    body = (
        "import signal, sys, time\nfrom pathlib import Path\n"
        f"def end(*_): Path(r'{tmp_path}/saved').open('a').write('x'); sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, end); Path(r'{tmp_path}/up').touch()\nwhile True: time.sleep(0.05)\n"
    )
    return step(tmp_path, "child", body)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_ends_what_runs_once_and_politely(tmp_path):
    polite(tmp_path)
    body = (
        "from pathlib import Path\nfrom utils.chain.plan import Plan, Step\nfrom utils.chain.run import run\n"
        f"run(Plan(((Step('child', (r'{tmp_path}/child.py',)),),)), Path(r'{tmp_path}/out'))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", body], cwd=ROOT, stderr=subprocess.PIPE)
    while not (tmp_path / "up").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    parent.communicate(timeout=60)
    assert (tmp_path / "saved").read_text(encoding="utf-8") == "x"
    assert json.loads((tmp_path / "out" / "plan.json").read_text(encoding="utf-8"))["done"] == {}


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_whatever_ends_it_no_training_goes_on_alone(tmp_path, monkeypatch):
    def once_it_is_up(*_: object) -> None:
        while not (tmp_path / "up").exists():
            time.sleep(0.05)
        raise BrokenPipeError(32, "nobody reads")

    monkeypatch.setattr("utils.chain.run._ended", once_it_is_up)
    with pytest.raises(BrokenPipeError):
        run(Plan(((polite(tmp_path),),)), tmp_path / "out")
    assert (tmp_path / "saved").read_text(encoding="utf-8") == "x"


def choices(**changes) -> Choices:
    return Choices(**{"out": Path("out"), "minutes": 100.0, "stages": ("encoder", "synthesizer", "vocoder"), **changes})


SOURCES = Sources((Path("corpus"),), alignments=(Path("a.jsonl"),))


@pytest.mark.parametrize("preset", [path.stem for path in (CONFIGS / "chain").glob("*.toml")])
def test_the_whole_time_is_shared_out_in_every_lane(preset):
    config = load_config(ChainConfig, "chain", preset)
    stages = ("encoder", "synthesizer", "vocoder", "tacotron", "wavernn", "hifigan")
    plan = make_plan(config, SOURCES, choices(stages=stages))
    assert len(plan.lanes) == (2 if config.parallel_lanes else 1)
    for lane in plan.lanes:
        assert sum(s.minutes for s in lane) == pytest.approx(100)
    names = [s.name for s in plan.steps]
    assert names.count("vocoder: prepare") == names.count("synthesizer: prepare") == 1, "stages share a set"
    assert names.index("encoder: train") < names.index("synthesizer: prepare") < names.index("tacotron: train")
    for stage in stages:  # every preset that is named exists and takes its settings
        words = list(next(s for s in plan.steps if s.name == f"{stage}: train").arguments)
        preset = words[words.index("--config") + 1]
        assert any((CONFIGS / kind / f"{preset}.toml").is_file() for kind in ("encoder", "synthesizer", "vocoder"))


@pytest.mark.parametrize(
    ("preset", "stage", "setting", "other"),
    [("gpu", "hifigan", "data.guide", "vocoder"), ("cpu", "tacotron", "flow_from", "synthesizer")],
)
def test_a_stage_takes_the_weights_that_the_chain_makes_of_another(preset, stage, setting, other):
    config = load_config(ChainConfig, "chain", preset)
    for stages in ((stage, other), (stage,)):
        plan = make_plan(config, SOURCES, choices(stages=stages, encoder=Path("e.safetensors")))
        words = next(step for step in plan.steps if step.name == f"{stage}: train").arguments
        found = [word for word in words if word.startswith(f"{setting}=")]
        assert found == ([f"{setting}={plan.weights[other]}"] if other in stages else [])


def test_what_a_stage_lacks_is_said_before_anything_runs():
    with pytest.raises(CloningError, match="needs phone times"):
        make_plan(ChainConfig(), Sources((Path("corpus"),)), choices())
    with pytest.raises(CloningError, match="synthesizer needs a speaker encoder"):
        make_plan(ChainConfig(), SOURCES, choices(stages=("synthesizer",)))
    plan = make_plan(ChainConfig(), SOURCES, choices(stages=("synthesizer",), encoder=Path("e.safetensors")))
    assert "e.safetensors" in plan.steps[0].arguments


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "--hours or --minutes"),
        (["--minutes", "-1"], "--hours or --minutes"),
        (["--minutes", "1", "--set", "vocoder.weigth=2"], "unknown settings"),
        (["--minutes", "1", "--config", "none"], "no preset 'none'"),
    ],
)
def test_bad_flags_are_one_line(corpus, tmp_path, capsys, more, said):
    assert train_all.main(flags([corpus], tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_few_speakers_get_the_encoder_that_is_there(corpus, tmp_path, capsys):
    words = [str(corpus), "--out", str(tmp_path / "out"), "--minutes", "1", "--dry-run"]
    assert train_all.main([*words, "--encoder", "mine.safetensors"]) == 0
    told = capsys.readouterr().out
    assert "6 speakers are too few" in told and "encoder_train.py" not in told and "--encoder mine.safetensors" in told


def test_phone_times_and_texts_may_be_folders_of_their_own(corpus, tmp_path):
    shutil.copytree(corpus / "s0", tmp_path / "voices" / "s0")
    apart = [tmp_path / "voices", corpus / "alignments", corpus / "punctuated"]
    found, whole = Sources.found(apart), Sources.found([corpus])
    assert len(whole.alignments) == len(whole.texts) == 1
    assert (found.alignments, found.texts) == (whole.alignments, whole.texts)


def test_a_plan_can_be_looked_at(corpus, tmp_path, capsys):
    assert train_all.main(flags([corpus], tmp_path / "out", "--hours", "2", "--dry-run")) == 0
    assert "vocoder: train (120 min): python vocoder_train.py" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
