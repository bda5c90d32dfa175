"""A script on two CPU processes, as `utils.training.flags.SEVERAL_PROCESSES` tells users to start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
]

# First in a script: rank 0 writes how many processes there really are, which is what `launch_two` looks at.
WORLD = """
import sys
from pathlib import Path
import utils.training.distributed
from accelerate import PartialState
state, written = PartialState(cpu=True), Path(sys.argv.pop(1))
if state.is_main_process:
    written.write_text(f"{state.num_processes} {state.backend}", encoding="utf-8")
"""


def launch_two(folder: Path, body: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Python code in two gloo processes with `sys.argv[1:]` = arguments; raises when it were not two."""
    script, world = folder / "launched.py", folder / "world.txt"
    script.write_text(WORLD + body, encoding="utf-8")
    world.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, *LAUNCH, str(script), str(world), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    assert world.read_text(encoding="utf-8") == "2 gloo"
    return done
