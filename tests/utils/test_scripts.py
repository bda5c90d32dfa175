"""How scripts end: one line and a code that tells why."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SPEAKING = """
import sys
from utils.scripts import exit_code
def speak():
    for line in range(int(sys.argv[1])):
        print("line", line)
sys.exit(exit_code(speak))
"""
FOREIGN = """
import sys
from utils.scripts import exit_code
def fail():
    raise BrokenPipeError(32, "of a socket")
sys.exit(exit_code(fail))
"""


def ended(script: str, *arguments: object, read: bool, **environment: str) -> tuple[int, str]:
    """Exit code and standard error of a script whose output is read, or is not."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment}
    )
    if not read:
        running.stdout.close()
        running.stdout = None
    error = running.communicate()[1].decode()
    return running.returncode, error


@pytest.mark.parametrize("buffering", ["1", ""])
@pytest.mark.parametrize("lines", [3, 100_000])
def test_output_that_nobody_reads_is_no_error_of_ours(lines, buffering):
    assert ended(SPEAKING, lines, read=False, PYTHONUNBUFFERED=buffering) == (141, "")
    assert ended(SPEAKING, lines, read=True, PYTHONUNBUFFERED=buffering) == (0, "")


def test_another_broken_pipe_is_a_fault_and_shown():
    code, error = ended(FOREIGN, read=True)
    assert code == 1 and error.endswith("BrokenPipeError: [Errno 32] of a socket\n")
