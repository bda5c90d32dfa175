"""A busy neighbor: how long a sentence takes while other processes spin.

    python benchmarks/busy.py [--spinning 0 2 6] [--policies passive default] [--repeats 3]
    python benchmarks/busy.py --command "python ../Real-Time-Voice-Cloning/demo_cli.py ..."   # of another project

Wall time, and processor time of the command and its children; the policies take turns. "passive" is the one of
`utils/__init__.py`; "default" is OpenMP without a setting.
"""

from __future__ import annotations

import argparse
import os
import shlex
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


def timed(command: list[str], policy: str) -> tuple[float, float]:
    """Seconds on the clock, and of processors."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, cwd=ROOT, env={**os.environ, **POLICIES[policy]}, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, os.times()
    return wall, after[2] + after[3] - before[2] - before[3]


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spinning", type=int, nargs="+", default=[0, 2, 6])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--command", type=shlex.split, default=OURS)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through `finally`: no neighbor is left spinning
    print("| spinning | policy | wall s, best to worst | processor s |\n|---|---|---|---|")
    for count in args.spinning:
        neighbors = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            taken = [(policy, timed(args.command, policy)) for _ in range(args.repeats) for policy in args.policies]
        finally:
            for neighbor in neighbors:
                neighbor.kill()
                neighbor.wait()
        for policy in args.policies:
            walls, processors = zip(*sorted(times for name, times in taken if name == policy), strict=True)
            print(f"| {count} | {policy} | {walls[0]:.1f} to {walls[-1]:.1f} | {min(processors):.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
