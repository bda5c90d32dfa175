"""Runs hostile inputs in a child process with a memory cap, and says what each did: refused in one line, or worse.

    for outcome in run("tests.hostile.checkpoints:use", paths, megabytes=500): ...

As a program it is that child: paths come on standard input, outcomes go to standard output, one JSON line each.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.conftest import ROOT


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    case: str
    kind: str  # "refused" (a CloningError), "taken", "traceback", "died"
    text: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0  # grown at the most; 0 where the system does not tell

    @property
    def clean(self) -> bool:
        return self.kind in ("refused", "taken") and "\n" not in self.text


def run(function: str, cases: Sequence[str | Path], megabytes: int) -> list[Outcome]:
    """`module:name` of a function of one path, called on each case in one child; a child that dies ends the list."""
    command = [sys.executable, "-m", "tests.hostile.limits", function, str(megabytes)]
    given = "".join(json.dumps(str(case)) + "\n" for case in cases)
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT, errors="replace")
    outcomes = [Outcome(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    if len(outcomes) < len(cases):
        reason = f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
        outcomes.append(Outcome(str(cases[len(outcomes)]), "died", reason))
    return outcomes


def table(rows: Iterable[tuple[str, Sequence[Outcome]]]) -> str:
    """Kinds of input: how many were tried, refused, taken, anything else; worst seconds and megabytes."""
    lines = ["| kind | tried | refused in one line | taken | else | worst s | worst MB |", "|---" * 7 + "|"]
    for kind, outcomes in rows:
        refused, taken = (sum(o.clean and o.kind == name for o in outcomes) for name in ("refused", "taken"))
        seconds, megabytes = (max(getattr(o, name) for o in outcomes) for name in ("seconds", "megabytes"))
        rest = len(outcomes) - refused - taken
        lines.append(f"| {kind} | {len(outcomes)} | {refused} | {taken} | {rest} | {seconds:.2f} | {megabytes:.0f} |")
    return "\n".join(lines)


def _attempt(function: object, case: str) -> Outcome:
    from utils.errors import CloningError

    before, began = _peak(reset=True), time.monotonic()
    try:
        function(case)
        kind, text = "taken", ""
    except CloningError as error:
        kind, text = "refused", str(error)
    except Exception:  # what a script would show as a traceback: that is what is looked for
        kind, text = "traceback", traceback.format_exc()
    return Outcome(case, kind, text, time.monotonic() - began, max(0.0, _peak() - before))


def _peak(reset: bool = False) -> float:
    """Most memory of this process in MB since the last reset, where Linux tells."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _cap(megabytes: int) -> None:
    """No more address space than now and so much again, where the system can do that."""
    try:
        import resource
    except ImportError:
        return
    with_libraries = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = with_libraries + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _main() -> None:
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)
    if sys.platform == "linux":
        _cap(int(sys.argv[2]))
    warnings.simplefilter("error", UserWarning)  # a library's warning before our line is a second line
    for line in sys.stdin:
        print(json.dumps(asdict(_attempt(function, json.loads(line)))), flush=True)


if __name__ == "__main__":
    _main()
