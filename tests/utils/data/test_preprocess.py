"""Laws of preprocessing: parallel equals serial, a killed run goes on, a second run does only what is missing."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from utils.data import preprocess as preprocessing
from utils.data import selection
from utils.data.corpora import Clip, scan
from utils.data.manifest import Arrays, Utterance, read_manifest, read_shard_indexes
from utils.errors import CloningError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600  # for what never comes; a busy machine takes what it needs
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


@dataclass(frozen=True)
class Process:
    """Reads a clip; writes down each call, so that a test can count the work done in all processes."""

    log: Path
    bug: str = ""
    together: int = 1  # processes: a call does not end until so many have begun one
    until: Path | None = None  # after the first speaker, a call does not end until this file is there

    def __call__(self, clip: Clip) -> tuple[Utterance, dict[str, np.ndarray]]:
        if clip.id == self.bug:
            raise ZeroDivisionError("a bug")
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {clip.id}\n")
        wait_for(lambda: len(self.processes()) >= self.together)
        wait_for(lambda: self.until is None or clip.speaker == "voices-s0" or self.until.exists())
        try:
            samples, rate = soundfile.read(clip.path, dtype="int16")
        except soundfile.LibsndfileError as error:
            raise CloningError(f"{clip.path} is not audio: give a recording") from error
        if len(samples) < rate // 10:
            raise CloningError(f"too little voice: found {len(samples) / rate:.3f} s of speech in {clip.path}")
        return preprocessing.describe(clip, seconds=len(samples) / rate, note="x"), {"wav": samples}

    def calls(self) -> list[str]:
        return [line.split()[1] for line in self.log.read_text(encoding="utf-8").splitlines()]

    def processes(self) -> set[str]:
        return {line.split()[0] for line in self.log.read_text(encoding="utf-8").splitlines()}


def make_corpus(root: Path, speakers: int = 4, clips: int = 6) -> Path:
    """Noise of different lengths as `voices/s<n>/<m>.wav`, one file of which is no audio and one too short."""
    random = np.random.default_rng(0)
    for s in range(speakers):
        for c in range(clips):
            path = root / f"voices/s{s}/{c}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, random.uniform(-0.5, 0.5, 3200 + 160 * (s + c)), 16000)
            path.with_suffix(".txt").write_text(f"Sentence {c}, said by {s}.", encoding="utf-8")
    (root / "voices/s1/2.wav").write_bytes(b"RIFF broken")
    soundfile.write(root / "voices/s2/3.wav", np.zeros(400), 16000)
    return root / "voices"


def whole_set(clips: list[Clip], out: Path, process: Process, **how):
    work = preprocessing.Work(**how)
    return preprocessing.run(
        clips, out, "test", process, assign_split=lambda speaker: "train", header={"rate": 16000}, work=work
    )


def content(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def clips(corpus):
    return scan(corpus).clips


@pytest.fixture(scope="module")
def serial(clips, tmp_path_factory):
    """The folder that an undisturbed run in one process leaves."""
    out = tmp_path_factory.mktemp("serial")
    whole_set(clips, out / "set", Process(out / "log"))
    return out / "set"


@pytest.mark.parametrize(
    ("corrupt", "good"),
    [(["0.m4a"], "0.wav"), (["0.mp3", "0.m4a"], "0.wav"), (["0.wav"], "0.flac"), (["0.wav"], "0.ogg")],
)
def test_a_corrupt_recording_hides_no_good_one_of_the_same_name(tmp_path, corrupt, good):
    folder = tmp_path / "voices" / "ann"
    folder.mkdir(parents=True)
    for name in ("1.wav", good):
        soundfile.write(folder / name, np.full(3200, 0.1), 16000)
    for name in corrupt:
        (folder / name).write_bytes(b"broken")
    manifest = whole_set(scan(tmp_path / "voices").clips, tmp_path / "set", Process(tmp_path / "log"))
    assert {u.id: u.path for u in manifest.utterances} == {"voices/ann/0": f"ann/{good}", "voices/ann/1": "ann/1.wav"}
    assert not manifest.header["skipped"]
    (folder / good).write_bytes(b"broken")
    manifest = whole_set(scan(tmp_path / "voices").clips, tmp_path / "none", Process(tmp_path / "log"))
    assert [u.id for u in manifest.utterances] == ["voices/ann/1"]
    assert manifest.header["skipped"] == {"not audio": 1}


def test_manifest_counts_hours_texts_and_reasons(serial, clips):
    manifest = read_manifest(serial, "test")
    assert manifest.header["utterances"] == len(clips) - 2 == len(manifest.utterances)
    assert manifest.header["speakers"] == 4 and manifest.header["rate"] == 16000
    assert manifest.header["hours"] == pytest.approx(sum(u.seconds for u in manifest.utterances) / 3600, abs=1e-4)
    assert manifest.header["skipped"] == {"not audio": 1, "too little voice": 1}
    assert [u.id for u in manifest.utterances] == sorted(u.id for u in manifest.utterances)
    first = manifest.utterances[0]
    assert (first.id, first.speaker, first.path) == ("voices/s0/0", "voices-s0", "s0/0.wav")
    assert first.text == "Sentence 0, said by 0." and first.extra == {"note": "x"}


def test_arrays_are_those_of_the_files(serial, clips):
    manifest, paths = read_manifest(serial), {clip.id: clip.path for clip in clips}
    arrays = Arrays(serial)
    for utterance in manifest.utterances:
        assert np.array_equal(arrays.read(utterance, "wav"), soundfile.read(paths[utterance.id], dtype="int16")[0])


def test_report_names_the_corrupt_files(serial, corpus):
    report = preprocessing.report(read_manifest(serial))
    assert "22 utterances (22 train) of 4 speakers" in report
    assert "left out: 1 not audio" in report and f"{corpus / 's1/2.wav'} is not audio" in report


def test_two_processes_equal_one(clips, serial, tmp_path):
    process = Process(tmp_path / "log", together=2)
    whole_set(clips, tmp_path / "set", process, jobs=2)
    assert content(tmp_path / "set") == content(serial)
    assert len(process.processes()) == 2 and str(os.getpid()) not in process.processes()


def test_second_run_does_nothing_and_a_larger_corpus_only_what_is_new(clips, tmp_path):
    process, out = Process(tmp_path / "log"), tmp_path / "set"
    whole_set(clips[:15], out, process)
    before = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    manifest = whole_set(clips[:15], out, process)
    assert len(process.calls()) == 15 and {p: p.stat().st_mtime_ns for p in before} == before
    assert sorted(process.calls()) == sorted(clip.id for clip in clips[:15])
    manifest = whole_set(clips, out, process)
    assert sorted(process.calls()) == sorted(clip.id for clip in clips)  # nothing twice
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(manifest.utterances) == 22 and sum(manifest.header["skipped"].values()) == 2


def test_what_an_earlier_run_did_stays_in_the_set(clips, tmp_path):
    whole_set(clips[:6], tmp_path / "set", Process(tmp_path / "log"))
    manifest = whole_set(clips[18:], tmp_path / "set", Process(tmp_path / "log"))
    assert {u.speaker for u in manifest.utterances} == {"voices-s0", "voices-s3"}


def test_repaired_files_are_taken_on_demand(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", speakers=3)
    process, clips, out = Process(tmp_path / "log"), scan(corpus).clips, tmp_path / "set"
    whole_set(clips, out, process)
    soundfile.write(corpus / "s1/2.wav", np.zeros(3200), 16000)
    assert whole_set(clips, out, process).header["skipped"] == {"not audio": 1, "too little voice": 1}
    manifest = whole_set(clips, out, process, retry_skipped=True)
    assert manifest.header["skipped"] == {"too little voice": 1} and manifest.header["utterances"] == len(clips) - 1
    assert len(process.calls()) == len(clips) + 2
    assert len((out / "skipped.jsonl").read_text(encoding="utf-8").splitlines()) == 1


KILLED = """
import signal
import sys
from pathlib import Path
from tests.utils.data.test_preprocess import Process, whole_set
from utils.data.corpora import scan

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
    out = Path(sys.argv[2])
    process = Process(out / "log", until=out / "signalled")
    whole_set(scan(sys.argv[1]).clips, out / "set", process, jobs=int(sys.argv[3]))
"""


@pytest.mark.parametrize(("jobs", "sent"), [(1, "SIGKILL"), (2, "SIGINT")])
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_killed_and_resumed_equals_undisturbed(corpus, clips, serial, tmp_path, jobs, sent):
    script = tmp_path / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    command = [sys.executable, str(script), str(corpus), str(tmp_path), str(jobs)]
    child = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, start_new_session=True
    )
    wait_for(lambda: len(list((tmp_path / "set/shards").glob("*.jsonl"))) >= 2 or child.poll() is not None)
    os.killpg(child.pid, getattr(signal, sent))  # as Ctrl-C does: the whole group gets it
    (tmp_path / "signalled").touch()
    _, stderr = child.communicate(timeout=600)
    assert child.returncode != 0 and not (tmp_path / "set/manifest.jsonl").exists()
    if sent == "SIGINT":
        assert b"BrokenProcessPool" not in stderr and b"KeyboardInterrupt" in stderr
    process = Process(tmp_path / "log2")
    utterances, skipped = read_shard_indexes(tmp_path / "set")
    finished = {item.id for item in utterances + skipped}
    assert 0 < len(finished) < len(clips)
    whole_set(clips, tmp_path / "set", process)
    assert content(tmp_path / "set") == content(serial)
    assert set(process.calls()) == {clip.id for clip in clips} - finished


def test_dask_cluster_of_two_processes_equals_one(clips, serial, tmp_path):
    distributed = pytest.importorskip("distributed", reason="pip install -r requirements/cluster.txt")
    process = Process(tmp_path / "log", together=2)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        manifest = whole_set(clips, tmp_path / "set", process, scheduler=cluster.scheduler_address)
        assert content(tmp_path / "set") == content(serial)
        assert len(process.processes()) == 2 and str(os.getpid()) not in process.processes()
        whole_set(clips, tmp_path / "set", process, scheduler=cluster.scheduler_address)
    assert len(process.calls()) == len(clips) and manifest.header["utterances"] == 22


def test_no_scheduler_is_a_one_line_error(clips, tmp_path):
    pytest.importorskip("distributed", reason="pip install -r requirements/cluster.txt")
    with pytest.raises(CloningError, match=r"no Dask scheduler answers at nonsense://"):
        whole_set(clips, tmp_path / "set", Process(tmp_path / "log"), scheduler="nonsense://127.0.0.1:1")


class Dies:
    def __call__(self, clip: Clip):
        os._exit(1)


def test_a_dead_worker_is_a_one_line_error(clips, tmp_path):
    with pytest.raises(CloningError, match=r"a worker process died.*run again to go on"):
        whole_set(clips, tmp_path / "set", Dies(), jobs=2)


def test_a_bug_stops_the_run_and_names_the_file(clips, tmp_path):
    with pytest.raises(ZeroDivisionError) as error:
        whole_set(clips, tmp_path / "set", Process(tmp_path / "log", bug="voices/s2/5"))
    assert "s2/5.wav was preprocessed" in error.value.__notes__[0].replace("\\", "/")
    manifest = whole_set(clips, tmp_path / "set", Process(tmp_path / "log"))
    assert len(manifest.utterances) == 22


class Loads:
    """Counts how often its heavy state is built."""

    def __init__(self, log: Path) -> None:
        self.log, self.model = log, None

    def __call__(self, clip: Clip):
        if self.model is None:
            self.model = "loaded"
            with self.log.open("a", encoding="utf-8") as file:
                file.write("loaded\n")
        return preprocessing.describe(clip, seconds=1.0), {}


def test_lazy_state_is_built_once_a_worker(clips, tmp_path):
    whole_set(clips, tmp_path / "set", Loads(tmp_path / "log"), jobs=2)
    assert len((tmp_path / "log").read_text(encoding="utf-8").splitlines()) <= 2


def test_other_settings_are_refused(clips, tmp_path):
    out, process = tmp_path / "set", Process(tmp_path / "log")
    whole_set(clips[:4], out, process)
    with pytest.raises(CloningError, match=r"other settings \(rate\): rate was 16000, now 22050"):
        preprocessing.run(clips, out, "test", process, assign_split=str, header={"rate": 22050})
    with pytest.raises(CloningError, match=r"other settings \(kind, rate\)"):
        preprocessing.run(clips, out, "vocoder", process, assign_split=str)


def test_splits_may_change_without_new_arrays(clips, tmp_path):
    out, process = tmp_path / "set", Process(tmp_path / "log")
    whole_set(clips, out, process)
    splits = selection.splitter(["voices-s0"], 0.0, 0, ["voices-s[12]"])
    manifest = preprocessing.run(clips, out, "test", process, assign_split=splits, header={"rate": 16000})
    assert {u.speaker for u in manifest.split("test")} == {"voices-s1", "voices-s2"}
    assert len(process.calls()) == len(clips)


def test_nothing_kept_and_repeated_ids_are_one_line_errors(clips, tmp_path):
    broken = [clip for clip in clips if clip.id in ("voices/s1/2", "voices/s2/3")]
    with pytest.raises(CloningError, match="nothing kept, skipped: .*not audio"):
        whole_set(broken, tmp_path / "set", Process(tmp_path / "log"))
    with pytest.raises(CloningError, match="ids belong to several clips"):
        whole_set([clips[0], clips[0]], tmp_path / "other", Process(tmp_path / "log"))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("{path} is empty (0 bytes); record or download it again", "empty (# bytes)"),
        ("no such file: {path}", "no such file"),
        ("too little voice: found 0.41 s of speech in {path}, 1.0 s is wanted", "too little voice"),
        ("{path}: not audio: unknown format", "not audio"),
        ("{name} is truncated: its header promises 2.1 s", "truncated"),
        ("{path}", "unusable"),
    ],
)
def test_reasons_group_files(clips, message, reason):
    error = CloningError(message.format(path=clips[0].path, name=clips[0].path.name))
    assert preprocessing.reason_of(error, clips[0]) == reason


@pytest.mark.parametrize(("n", "workers"), [(1, 1), (5, 2), (24, 2), (300, 8), (3000, 2), (3000, 64)])
def test_shards_cover_all_clips_and_spread_over_the_workers(n, workers):
    clips = [Clip(f"c/{i:05d}", "c-s", Path("x")) for i in range(n)]
    shards = list(preprocessing._shards(clips, set(), 128, workers))
    assert [clip for shard in shards for clip in shard.clips] == clips
    assert max(len(shard.clips) for shard in shards) <= 128
    assert len(shards) >= min(n, 2 * workers)
    assert len({shard.name for shard in shards}) == len(shards)
    rest = list(preprocessing._shards(clips, {clip.id for clip in shards[0].clips}, 128, workers))
    assert [s.name for s in rest] == [s.name for s in shards[1:]]


def test_speakers_are_split_whole_and_stay_where_they_are():
    names = [f"voices-{n}" for n in range(2000)]
    half = selection.splitter(names[:1000], 0.1, 3, ["voices-7", "voices-99?"])
    whole = selection.splitter(names, 0.1, 3, ["voices-7", "voices-99?"])
    assert {s: whole[s] for s in names[:1000]} == dict(half)
    assert [s for s in names if whole[s] == "test"] == ["voices-7", *(f"voices-99{n}" for n in range(10))]
    assert 150 < sum(split == "validation" for split in whole.values()) < 250
    assert selection.splitter(names, 0.1, 4) != selection.splitter(names, 0.1, 5)
    assert half("voices-1500") == whole["voices-1500"]  # also of speakers that it was not made with
    assert set(selection.splitter(names, 0.0, 0).values()) == {"train"}


def test_few_speakers_still_get_a_validation():
    for n in range(2, 30):
        splits = selection.splitter([f"v-{i}" for i in range(n)], 1e-9, 0, ["v-0"])
        assert list(splits.values()).count("validation") == (1 if n > 2 else 0), n
    for seed in range(10):  # a lone speaker trains, wherever the seed would put it
        assert selection.splitter(["v-0"], 0.9, seed) == {"v-0": "train"}
    with pytest.raises(CloningError, match="fraction"):
        selection.splitter(["v-0"], 5, 0)
    for seed in range(10):  # as many as a stage needs, while as many are left
        for n, held_out in ((2, 1), (3, 1), (4, 2), (5, 2), (9, 2)):
            for validation in (1e-9, 0.99):
                splits = selection.splitter([f"v-{i}" for i in range(n)], validation, seed, held_out=2)
                assert list(splits.values()).count("validation") == (held_out if validation < 0.5 else n - held_out)


def flags(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    selection.add_arguments(parser)
    return parser.parse_args(arguments)


def test_flags(corpus, tmp_path):
    aside = tmp_path / "aside.txt"
    aside.write_text("# frozen\nvoices-s3  # the last\n\n", encoding="utf-8")
    chosen = selection.select(
        flags(str(corpus), "--out", "x", "--set-aside", str(aside), "--validation", "0.3", "--limit", "20"),
        keep=lambda clip: clip.id != "voices/s0/0",
    )
    assert len(chosen.clips) == 20 and chosen.clips[0].id == "voices/s0/1"
    assert chosen.splits["voices-s3"] == "test" and "validation" in chosen.splits.values()
    assert flags("a", "b", "--out", "x").corpora == [Path("a"), Path("b")]
    with pytest.raises(CloningError, match="cannot read the list"):
        selection.select(flags(str(corpus), "--out", "x", "--set-aside", str(tmp_path / "none")))
    with pytest.raises(CloningError, match="none of the 24 clips is to be used"):
        selection.select(flags(str(corpus), "--out", "x"), keep=lambda clip: False)


def test_the_frozen_list_sets_aside_the_voices_of_the_claims():
    names = selection.read_set_aside(selection.SET_ASIDE)
    assert len(names) == len(set(names)) == 6 + 10 + 6 + 4 + 125
    assert {"librispeech-4507", "librispeech-3080", "ravdess-21", "speechocean762-2380"} <= set(names)
    splits = selection.splitter([], 0.0, 0, names)
    assert splits["CommonVoice-acb1b5d5f47e"] == splits["commonvoice-acb1b5d5f47e0123"] == "test"
