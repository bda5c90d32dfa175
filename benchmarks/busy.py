"""A busy neighbor: how long a sentence takes while other processes spin.

    python benchmarks/busy.py [--spinning 0 2 6] [--policies passive default] [--repeats 3]
    python benchmarks/busy.py --peer ../Real-Time-Voice-Cloning   # and the same seconds of speech by that code

Wall time, and processor time of a command and its children; the rows take turns. "passive" is the one of
`utils/__init__.py`; "default" is OpenMP without a setting, as the peer (RTVC) has it. The peer's command is the whole
chain of `peer.py` once, from the start of Python on, with random weights of the published sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = [sys.executable, "demo_cli.py", "--reference", "samples/austen_0870.wav", "--seed", "1", "--text"]
OURS += ["The quick brown fox jumps over the lazy dog.", "--output", str(Path(tempfile.gettempdir()) / "busy.wav")]
POLICIES = {"passive": {"OMP_WAIT_POLICY": "passive"}, "default": {"GOMP_SPINCOUNT": "300000"}}  # libgomp's own number


SECONDS = 3.0  # of speech, about what our sentence comes to
Row = tuple[str, list[str], str, str]  # name, command, policy, what it is told on standard input


def peer_row(checkout: Path, weights: Path) -> Row:
    """The peer's whole chain once; makes its weights."""
    base = [sys.executable, str(ROOT / "benchmarks" / "peer.py"), "--peer", str(checkout.resolve())]
    base += ["--weights", str(weights), "--threads", str(os.cpu_count())]
    subprocess.run([*base, "--serve", "weights"], check=True)
    asked = json.dumps({"part": "whole", "seconds": SECONDS}) + "\n"
    return "peer", [*base, "--serve", "peer"], "default", asked


def timed(row: Row) -> tuple[float, float]:
    """Seconds on the clock, and of processors."""
    _, command, policy, told = row
    before, began = os.times(), time.perf_counter()
    environment = {**os.environ, **POLICIES[policy]}
    subprocess.run(command, cwd=ROOT, env=environment, input=told, text=True, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, os.times()
    return wall, after[2] + after[3] - before[2] - before[3]


def compare(rows: list[Row], spinning: list[int], repeats: int) -> None:
    """Print a line for each row beside each number of spinning processes."""
    print("| spinning | of | policy | wall s, best to worst | processor s |\n|---|---|---|---|---|")
    for count in spinning:
        neighbors = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            taken = [[timed(row) for row in rows] for _ in range(repeats)]
        finally:
            for neighbor in neighbors:
                neighbor.kill()
                neighbor.wait()
        for (name, _, policy, _), times in zip(rows, zip(*taken, strict=True), strict=True):
            walls, processors = zip(*sorted(times), strict=True)
            wall = f"{walls[0]:.1f} to {walls[-1]:.1f}"
            print(f"| {count} | {name} | {policy} | {wall} | {min(processors):.1f} |", flush=True)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spinning", type=int, nargs="+", default=[0, 2, 6])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", type=Path, metavar="CHECKOUT", help="of Real-Time-Voice-Cloning")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through `finally`: no neighbor is left spinning
    rows: list[Row] = [("ours", OURS, policy, "") for policy in args.policies]
    with tempfile.TemporaryDirectory() as weights:
        if args.peer:
            rows.append(peer_row(args.peer, Path(weights)))
        compare(rows, args.spinning, args.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
