"""From a corpus to a preprocessed set: parallel, resumable, on this machine's cores or on a Dask cluster.

A run cuts the clips into shards; a worker makes a shard whole and writes it (`utils.data.manifest.write_shard`), so
nothing but names and counts travels back, and a killed run loses the shards in hand only. The manifest is gathered at
the end.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import multiprocessing
import re
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from utils.data.corpora import Clip
from utils.data.manifest import Manifest, Skipped, Utterance, read_shard_indexes, write_manifest, write_shard
from utils.errors import CloningError, missing_package
from utils.files import write_text
from utils.processes import begin_worker, locked

log = logging.getLogger(__name__)
Process = Callable[[Clip], tuple[Utterance, dict[str, np.ndarray]]]
_LISTED = 20  # corrupt files named in a report; skipped.jsonl has them all


@dataclass(frozen=True)
class Work:
    """How a set is made; nothing in the set depends on it. Raises CloningError for counts under 1."""

    jobs: int = 1  # processes
    scheduler: str | None = None  # address of a Dask cluster, in place of processes
    shard_size: int = 128  # clips
    retry_skipped: bool = False  # try again what an earlier run left out

    def __post_init__(self) -> None:
        if self.jobs < 1 or self.shard_size < 1:
            raise CloningError(f"jobs ({self.jobs}) and shard_size ({self.shard_size}) must be at least 1")


def run(
    clips: Iterable[Clip],
    out_dir: str | Path,
    kind: str,
    process: Process,
    *,
    assign_split: Callable[[str], str],
    header: dict[str, Any] | None = None,
    left_out: Iterable[Skipped] = (),
    work: Work = Work(),
) -> Manifest:
    """Preprocess the clips that `out_dir` lacks, then gather its manifest.

    `process` must be picklable; each worker keeps one copy of it, so what it loads lazily is loaded once a worker.
    It raises CloningError for a clip that cannot be used: the clip is skipped and counted by reason. With one job
    everything runs in this process; otherwise in spawned processes with one torch thread each, or, with a scheduler, on
    the workers of that Dask cluster, which must see `out_dir` and the corpus under the same paths.

    `header` holds the settings that the arrays depend on: going on in a folder made with others is refused. Splits are
    assigned when the manifest is gathered, so changing them needs no new arrays. `left_out` says what never came here.
    Raises CloningError when nothing is kept, a worker dies, or the cluster does not answer.
    """
    clips = list(clips)
    header = {} if header is None else header
    root = Path(out_dir).absolute()
    if repeated := [id for id, n in Counter(clip.id for clip in clips).items() if n > 1]:
        raise CloningError(f"{len(repeated)} ids belong to several clips, such as {repeated[0]}: scan them together")
    with locked(root):
        _check_settings(root, kind, header)
        done = _done(root, work.retry_skipped)
        task = _Task(root, process, alone=work.jobs == 1 and work.scheduler is None)
        missing = sum(clip.id not in done for clip in clips)
        log.info("%d clips, %d of them to do", len(clips), missing)
        with tqdm(total=missing, unit="clip", desc=kind, disable=None, smoothing=0.05) as bar:
            results: Generator[_ShardCounts, None, None]
            if missing and work.scheduler is not None:
                results = _on_cluster(task, work.scheduler, lambda n: _shards(clips, done, work.shard_size, n))
            elif missing and work.jobs > 1:
                results = _in_pool(task, _shards(clips, done, work.shard_size, work.jobs), work.jobs)
            else:
                results = (task(shard, bar) for shard in _shards(clips, done, work.shard_size, 1))
            try:
                _follow(results, root, bar, counted=task.alone)
            except (SystemExit, CloningError):  # by a signal, which ended the workers; or on a full disk
                _remove_leftovers(root)
                raise
        return gather(root, kind, assign_split, header, left_out)


def gather(
    root: Path,
    kind: str,
    assign_split: Callable[[str], str],
    header: dict[str, Any],
    never_tried: Iterable[Skipped] = (),
) -> Manifest:
    """Write `manifest.jsonl` and `skipped.jsonl` from the finished shards, in the order of ids."""
    utterances, skipped = read_shard_indexes(root)
    kept = {u.id: u for u in utterances}
    # a clip that a later run could use is no longer left out
    left_out = {s.id: s for s in (*never_tried, *skipped) if s.id not in kept}
    ordered = [replace(kept[id], split=assign_split(kept[id].speaker)) for id in sorted(kept)]
    _remove_leftovers(root)
    return write_manifest(root, kind, ordered, [left_out[id] for id in sorted(left_out)], **header)


def _remove_leftovers(root: Path) -> None:
    for pattern in ("*.partial", ".tmp*"):  # ours and safetensors', of processes that were killed
        for leftover in (root / "shards").glob(pattern):
            leftover.unlink(missing_ok=True)


def describe(clip: Clip, *, seconds: float, frames: int = 0, **extra: Any) -> Utterance:
    """The manifest's entry of a clip."""
    return Utterance(
        id=clip.id,
        speaker=clip.speaker,
        path=clip.source,
        seconds=round(seconds, 4),
        frames=frames,
        text=clip.text,
        emotion=clip.emotion,
        extra=extra,
    )


def report(manifest: Manifest) -> str:
    """What a set holds, for the end of a script: counts, hours, and the files that were left out."""
    header = manifest.header
    splits = ", ".join(f"{n} {name}" for name, n in header["splits"].items())
    lines = [
        f"{manifest.root}: {header['utterances']} utterances ({splits}) of {header['speakers']} speakers, "
        f"{header['hours']:.2f} h"
    ]
    for reason, count in header["skipped"].items():
        lines.append(f"left out: {count} {reason}")
    if header["skipped"]:
        rows = (manifest.root / "skipped.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
        lines += [f"  {json.loads(row)['detail']}" for row in rows[:_LISTED]]
        if len(rows) > _LISTED:
            lines.append(f"  and {len(rows) - _LISTED} more in {manifest.root / 'skipped.jsonl'}")
    return "\n".join(lines)


class _Shard(NamedTuple):
    name: str
    clips: list[Clip]


class _ShardCounts(NamedTuple):
    name: str
    kept: int
    skipped: int
    seconds: float


def _shards(clips: list[Clip], done: set[str], shard_size: int, workers: int) -> Iterator[_Shard]:
    """Cut all clips, then leave out what is done: a run that goes on makes the shards that the first one would have.

    Names come from the ids, so two shards never share one, whatever made them.
    """
    pieces = 4 * max(workers, 4)  # a small corpus still spreads over the workers, and few workers cut it alike
    size = max(1, min(shard_size, math.ceil(len(clips) / pieces)))
    for start in range(0, len(clips), size):
        chunk = [clip for clip in clips[start : start + size] if clip.id not in done]
        if chunk:
            digest = hashlib.sha256("\n".join(clip.id for clip in chunk).encode()).hexdigest()
            yield _Shard(digest[:16], chunk)


_LOCAL = threading.local()


class _Task:
    """Makes one shard. Travels to the workers with every shard, but its first copy there stays and does the work."""

    def __init__(self, root: Path, process: Process, alone: bool) -> None:
        self.root, self.process, self.alone = root, process, alone
        self.token = uuid.uuid4().hex

    def __call__(self, shard: _Shard, bar: tqdm | None = None) -> _ShardCounts:
        process = self._own_process()
        utterances, arrays, skipped = [], {}, []
        file = f"shards/{shard.name}.safetensors"
        for clip in shard.clips:
            faults = []
            for reading in clip.readings():
                try:
                    utterance, fields = process(reading)
                except CloningError as error:
                    faults.append(Skipped(clip.id, str(reading.path), reason_of(error, reading), str(error)))
                except Exception as error:  # a fault of ours, not of the corpus: stop, but say where
                    error.add_note(f"while {reading.path} was preprocessed")
                    raise
                else:
                    utterances.append(replace(utterance, shard=file))
                    arrays.update({f"{utterance.id}/{name}": array for name, array in fields.items()})
                    if faults:
                        log.warning("%s; %s is taken", faults[0].detail, reading.path)
                    break
            else:
                skipped += faults[:1]
            if bar is not None:
                bar.update()
        write_shard(self.root, shard.name, utterances, arrays, skipped)
        return _ShardCounts(shard.name, len(utterances), len(skipped), sum(u.seconds for u in utterances))

    def _own_process(self) -> Process:
        """The `process` of this worker thread; prepares it on the first call of a run."""
        if not self.alone and "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)  # the workers share the cores; one that needs no torch imports none
        if getattr(_LOCAL, "token", None) != self.token:
            _LOCAL.token, _LOCAL.process = self.token, self.process
        return _LOCAL.process


def _in_pool(task: _Task, shards: Iterator[_Shard], jobs: int) -> Generator[_ShardCounts, None, None]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=begin_worker) as pool:
        try:
            pending = {pool.submit(task, shard) for shard in itertools.islice(shards, 2 * jobs)}
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                pending |= {pool.submit(task, shard) for shard in itertools.islice(shards, len(finished))}
                yield from [future.result() for future in finished]
        except BrokenProcessPool as error:
            raise CloningError(
                f"a worker process died, perhaps for want of memory: run again to go on, with fewer than {jobs} jobs"
            ) from error
        finally:  # after an error or Ctrl-C: the shards in hand are finished, no other is begun
            pool.shutdown(wait=False, cancel_futures=True)


def _on_cluster(
    task: _Task, scheduler: str, cut: Callable[[int], Iterator[_Shard]]
) -> Generator[_ShardCounts, None, None]:
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError as error:
        raise missing_package("distributed", "a Dask cluster", "requirements/cluster.txt") from error
    try:
        client = Client(scheduler, timeout=20)
    except (OSError, TimeoutError, ValueError) as error:
        raise CloningError(f"no Dask scheduler answers at {scheduler}: start one with `dask scheduler`") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=60)
        except TimeoutError as error:
            raise CloningError(f"{scheduler} has no workers: start some with `dask worker {scheduler}`") from error
        _require_project(client, scheduler)
        workers = sum(client.nthreads().values())
        shards = cut(workers)
        waiting = as_completed()
        waiting.update(client.submit(task, shard, pure=False) for shard in itertools.islice(shards, 2 * workers))
        try:
            for future in waiting:
                made = future.result()
                waiting.update(client.submit(task, shard, pure=False) for shard in itertools.islice(shards, 1))
                yield made
        except KilledWorker as error:
            raise CloningError(f"workers of {scheduler} died, for want of memory? Run again to go on") from error


def _require_project(client: Any, scheduler: str) -> None:
    """Refuse a cluster that cannot import this module: its workers would hang rather than fail."""
    try:
        found = [client.run_on_scheduler(find_spec, __name__), *client.run(find_spec, __name__).values()]
    except ModuleNotFoundError:
        found = [None]
    if None in found:
        raise CloningError(
            f"{scheduler} cannot import this project: start its scheduler and its workers in this folder with "
            "PYTHONPATH=. and the same packages"
        )


def _follow(results: Generator[_ShardCounts, None, None], root: Path, bar: tqdm, counted: bool) -> None:
    """Move the bar as shards come in; `counted` where the task itself counts clips."""
    seconds, skipped = 0.0, 0
    with closing(results):
        for made in results:
            if not (root / "shards" / f"{made.name}.jsonl").is_file():
                raise CloningError(
                    f"{root}: a worker's shard did not arrive here: the folder must be on a disk that all workers share"
                )
            seconds, skipped = seconds + made.seconds, skipped + made.skipped
            if not counted:
                bar.update(made.kept + made.skipped)
            bar.set_postfix_str(f"{seconds / 3600:.2f} h, {skipped} left out", refresh=False)


def reason_of(error: CloningError, clip: Clip) -> str:
    """What a skipped clip is counted under: the error's first clause without the file's name and without numbers."""
    text = str(error)
    for name in (str(clip.path), clip.path.name, clip.id):
        text = text.replace(name, "")
    clause = re.split(r"[:;]\s", text.strip(" :'\""), maxsplit=1)[0]
    clause = re.sub(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", "#", clause)  # but not those of a name, such as mp3
    return " ".join(clause.split()).removeprefix("is ").strip(" :;'\"") or "unusable"


def _done(root: Path, retry_skipped: bool) -> set[str]:
    utterances, skipped = read_shard_indexes(root)
    done = {u.id for u in utterances}
    return done if retry_skipped else done | {s.id for s in skipped}


def _check_settings(root: Path, kind: str, header: dict[str, Any]) -> None:
    """Remember what the arrays of `root` depend on; refuse to mix two kinds of them in one set."""
    path = root / "settings.json"
    wanted = json.loads(json.dumps({"kind": kind, **header}))
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise CloningError(f"{path}: damaged: {error}; delete the folder {root}, or choose another") from error
        if different := sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k)):
            k = different[0]
            raise CloningError(
                f"{root} was made with other settings ({', '.join(different)}): {k} was {found.get(k)!r}, "
                f"now {wanted.get(k)!r}; choose another folder, or delete it"
            )
        return
    write_text(path, json.dumps(wanted, indent=1) + "\n")
