"""Killed at any moment, by any signal, no script leaves a process or loses work; two never write to one folder."""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from utils.data.manifest import read_manifest
from utils.errors import CloningError
from utils.processes import locked
from utils.training.log import RunLog

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups")
PATIENCE = 600.0  # seconds, for what never comes: a busy machine takes what it needs
DEBUG = ["--config", "debug", "--device", "cpu", "--threads", "1"]
TRAINING = {
    "encoder": ["--set", "loss.ge2e_weight=1.0"],
    "synthesizer": ["--set", "model.architecture=tacotron", "--set", "data.min_frames=1"],
    "vocoder": ["--set", "training.workers=1"],
}


def start(script: str, *arguments: object) -> subprocess.Popen:
    """A script in a process group of its own, so that whatever it leaves behind can be found."""
    command = [sys.executable, str(ROOT / f"{script}.py"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.PIPE
    return subprocess.Popen(command, start_new_session=True, stdout=output, stderr=output, text=True, env=environment)


def finish(script: str, *arguments: object) -> None:
    """The same script to its end, in this process, which has loaded torch already."""
    assert importlib.import_module(script).main([str(a) for a in arguments]) == 0


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def wait_for(condition, seconds: float = PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def wait_for_files(process: subprocess.Popen, folder: Path, count: int) -> None:
    """Until `folder` holds so many indexes of shards, or the process has ended."""
    wait_for(lambda: len(list(folder.glob("*.jsonl"))) >= count or process.poll() is not None)


def wait_for_lines(process: subprocess.Popen, path: Path, count: int) -> None:
    wait_for(lambda: process.poll() is not None or (path.is_file() and path.read_bytes().count(b"\n") >= count))


def kill(process: subprocess.Popen, number: int) -> str:
    """Send a signal, to the first process alone; all of its group must end. Returns what it said."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert wait_for(lambda: not alive(process.pid), 60), "processes are left"
    return errors


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Forty short clips of four speakers, with texts."""
    root = tmp_path_factory.mktemp("corpus") / "voices"
    draw = np.random.default_rng(0)
    for number in range(40):
        folder = root / f"s{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        time = np.arange(20_000) / 16_000
        tone = sum(np.sin(2 * np.pi * k * (100 + 20 * (number % 4)) * time) / k for k in range(1, 20))
        loud = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time)
        soundfile.write(folder / f"{number}.wav", 0.1 * tone * loud + draw.normal(0, 1e-3, len(time)), 16_000)
        (folder / f"{number}.txt").write_text("Hello there.", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def flags(tmp_path_factory) -> dict[str, list]:
    models = save_tiny_models(tmp_path_factory.mktemp("models"))
    encoder = models / "encoder.safetensors"
    return {"encoder": ["--min-seconds", "0.1"], "synthesizer": ["--encoder", encoder], "vocoder": []}


@pytest.fixture(scope="module")
def sets(tmp_path_factory, corpus, flags) -> dict[str, Path]:
    """What each preprocess script makes, undisturbed."""
    root = tmp_path_factory.mktemp("sets")
    for stage in flags:
        finish(f"{stage}_preprocess", corpus, "--out", root / stage, "--jobs", 1, "--validation", 0.3, *flags[stage])
    return {stage: root / stage for stage in flags}


@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGHUP"])
def test_workers_end_with_their_parent(corpus, tmp_path, number):
    process = start("vocoder_preprocess", corpus, "--out", tmp_path / "set", "--jobs", 2)
    assert wait_for(lambda: any((tmp_path / "set" / "shards").glob("*.jsonl")) or process.poll() is not None)
    errors = kill(process, getattr(signal, number))
    if number != "SIGKILL":
        assert "Traceback" not in errors
        assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["encoder", "synthesizer", "vocoder"])
def test_killed_preprocessings_go_on(corpus, flags, sets, tmp_path, stage, long):
    draw = random.Random(stage)
    expected = {u.id: u for u in read_manifest(sets[stage]).utterances}
    for attempt in range(50 if long else 1):
        out = tmp_path / str(attempt)
        command = (f"{stage}_preprocess", corpus, "--out", out, "--validation", 0.3, *flags[stage])
        process = start(*command, "--jobs", 2)
        done = draw.randrange(6)  # shards
        wait_for_files(process, out / "shards", done)
        time.sleep(draw.random() * 0.3)
        kill(process, draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)))
        finish(*command, "--jobs", 1)
        found = {u.id: u for u in read_manifest(out).utterances}
        assert found.keys() == expected.keys()
        assert all(found[id].seconds == expected[id].seconds for id in found)
        assert not [path for path in out.rglob("*") if "partial" in path.name or path.name.startswith(".tmp")]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["encoder", "synthesizer", "vocoder"])
def test_killed_trainings_go_on(sets, tmp_path, stage, long):
    draw = random.Random(stage)
    for attempt in range(50 if long else 1):
        out = tmp_path / str(attempt)
        settings = ["--set", "training.save_every=3", "--set", "training.log_every=1", "--set", "data.min_seconds=0.3"]
        settings = settings[: 4 if stage != "encoder" else 6]
        command = (f"{stage}_train", sets[stage], "--out", out, *DEBUG, *settings, *TRAINING[stage], "--steps", 12)
        process = start(*command)
        wanted = draw.randrange(1, 8)  # lines of the log
        log = out / "log.jsonl"
        wait_for_lines(process, log, wanted)
        time.sleep(draw.random() * 0.2)
        number = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP))
        errors = kill(process, number)
        if number != signal.SIGKILL:  # after which a process that prepares batches says what it thinks of it
            assert "Traceback" not in errors
            assert process.returncode != 0 or (out / "state.pt").is_file()
        finish(*command)
        rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        steps = [row["step"] for row in rows if row["group"] == "train"]
        assert steps == list(range(1, 13))
        assert not [path for path in out.rglob("*") if "partial" in path.name or path.name.startswith(".tmp")]


@pytest.mark.slow
def test_a_hang_up_that_is_ignored_stays_ignored(corpus, tmp_path):
    """As under nohup."""
    code = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); import vocoder_preprocess as v; "
    code += "sys.exit(v.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, str(corpus), "--out", str(tmp_path / "set"), "--jobs", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert wait_for(lambda: any((tmp_path / "set" / "shards").glob("*.jsonl")) or process.poll() is not None)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_two_never_write_to_one_folder(tmp_path):
    code = "import sys, time; from pathlib import Path; from utils.processes import locked\n"
    code += "with locked(Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(1000)"
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    other = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(CloningError, match=f"another run \\(process {other.pid}\\) writes here"):
        with locked(tmp_path / "out"):
            pass
    other.kill()
    other.wait()
    with locked(tmp_path / "out"):  # the lock of a killed process is none
        assert (tmp_path / "out" / ".lock").read_text(encoding="utf-8") == f"{os.getpid()}\n"


def test_a_log_that_goes_on_has_every_step_once(tmp_path):
    log = RunLog(tmp_path)
    log.open({})
    for step in (1, 2, 3, 4, 5):
        log.write("train", step, 0.0, {"loss": 1.0})
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 6, "gro')  # killed while it wrote
    again = RunLog(tmp_path)
    again.open({}, 3)
    for step in (4, 5, 6):
        again.write("train", step, 0.0, {"loss": 2.0})
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
