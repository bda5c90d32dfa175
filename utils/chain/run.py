"""Running a plan: a bar a stage, a log a step; what is done stays done, and a stopped run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from utils.chain.plan import Plan, Step
from utils.errors import CloningError
from utils.files import write_text

LOOK_SECONDS = 0.2
TOLD_LINES = 3  # of a failed step's log


class ChainState:
    """Which steps of a plan are done: `plan.json` in the chain's folder."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self.path = out / "plan.json"
        wanted = {step.name: list(step.arguments) for step in plan.steps}
        self.done: dict[str, float] = {}  # name -> seconds
        if self.path.is_file():
            try:
                content = json.loads(self.path.read_text(encoding="utf-8"))
                steps, self.done = content["steps"], content["done"]
            except (ValueError, KeyError, TypeError) as error:
                raise CloningError(f"{self.path}: damaged: delete the folder {out} or choose another") from error
            if steps != wanted:
                name = next(name for name in {**steps, **wanted} if steps.get(name) != wanted.get(name))
                raise CloningError(
                    f"{out}: was begun with another plan (differs in {name!r}): repeat that command, or choose "
                    "another folder"
                )
        self.steps = wanted

    def finish(self, step: Step, seconds: float) -> None:
        """Remember that `step` is done."""
        self.done[step.name] = round(seconds, 1)
        self.save()

    def save(self) -> None:
        """Write what is known. Raises CloningError where nothing can be written."""
        try:
            write_text(self.path, json.dumps({"steps": self.steps, "done": self.done}, indent=1) + "\n")
        except OSError as error:
            raise CloningError(
                f"{self.path.parent}: cannot write here: {error.strerror}; choose another folder"
            ) from error


@dataclass
class _Active:
    step: Step
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    bar: tqdm
    began: float
    before: float  # seconds of training in earlier parts


def run(plan: Plan, out: Path) -> None:
    """Run what is not done, lanes at the same time. Raises CloningError after all lanes have ended: what failed.

    Ctrl-C and SIGTERM let the trainings save what they have, and end.
    """
    progress = ChainState(plan, out)
    progress.save()
    lanes = [deque(step for step in lane if step.name not in progress.done) for lane in plan.lanes]
    active: list[_Active | None] = [None] * len(lanes)
    failed: list[str] = []
    with _terminable(), ExitStack() as undo:
        # Ctrl-C, a full disk, output that nobody reads: no training goes on alone
        undo.callback(lambda: _stop([now for now in active if now is not None]))
        while any(lanes) or any(active):
            for index, lane in enumerate(lanes):
                if active[index] is None and lane:
                    active[index] = _start(lane.popleft(), out, index)
                if (now := active[index]) is None or not _ended(now):
                    continue
                active[index] = None
                if now.process.returncode == 0:
                    progress.finish(now.step, time.monotonic() - now.began)
                else:
                    lane.clear()
                    failed.append(_why(now))
            time.sleep(LOOK_SECONDS)
        undo.pop_all()
    if failed:
        raise CloningError("; ".join(failed))


def _start(step: Step, out: Path, place: int) -> _Active:
    path = log_of(step, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = path.open("ab")
    total = 60 * step.minutes or None
    shape = "{desc} {bar} {n:.0f} of {total:.0f} s, {remaining} left{postfix}" if total else "{desc} {elapsed}{postfix}"
    bar = tqdm(total=total, desc=step.name, position=place, bar_format=shape, disable=None, leave=True)
    if bar.disable:
        print(f"{step.name}: {path}", flush=True)
    # a group of its own: Ctrl-C reaches this process alone, which then asks each training once to save and end
    process = subprocess.Popen(
        step.command,
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=os.name == "posix",
    )
    before = 3600 * last_row(step.run).get("hours", 0.0) if step.run else 0.0
    return _Active(step, process, log, bar, time.monotonic(), before)


def _ended(now: _Active) -> bool:
    ended = now.process.poll() is not None
    if now.step.run is not None:
        seconds = now.before + time.monotonic() - now.began
        now.bar.update(max(0.0, min(seconds, 60 * now.step.minutes) - now.bar.n))
        losses = [f"{k} {v:.3g}" for k, v in last_row(now.step.run).items() if isinstance(v, float) and k != "hours"]
        now.bar.set_postfix_str(", ".join(losses[:3]), refresh=False)
    now.bar.refresh()
    if ended:
        now.log.close()
        now.bar.close()
    return ended


def _stop(active: list[_Active]) -> None:
    for now in active:
        if os.name == "posix":  # elsewhere Ctrl-C has reached them
            now.process.send_signal(signal.SIGTERM)
    for now in active:
        now.process.wait()
        now.log.close()
        now.bar.close()
    print("stopped and saved; the same command goes on", flush=True)


def _why(now: _Active) -> str:
    lines = Path(now.log.name).read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    told = " / ".join(line.strip() for line in lines if line.strip()) if len(lines) < TOLD_LINES else lines[-1].strip()
    return f"{now.step.name} failed ({told.removeprefix('error: ')}): see {now.log.name}; the same command goes on"


def log_of(step: Step, out: Path) -> Path:
    """Where a step's output goes."""
    return out / "logs" / f"{step.name.replace(': ', '_')}.log"


def last_row(run: Path) -> dict[str, Any]:
    """The newest numbers of a training; {} before there are any."""
    path = run / "log.jsonl"
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:  # cut off, or still being written
            continue
        if isinstance(row, dict):
            return row
    return {}


@contextmanager
def _terminable() -> Iterator[None]:
    """Within, SIGTERM is as Ctrl-C."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: leave signals alone
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
