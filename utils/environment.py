"""What a run or a measurement was made with: commit, packages, machine. Nothing that names a person or a path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "numpy", "safetensors", "accelerate", "soundfile", "soxr", "scipy", "gruut", "webrtcvad-wheels")
ROOT = Path(__file__).resolve().parent.parent


def environment(device: torch.device) -> dict[str, Any]:
    """Plain values: commit, versions of Python and of the packages that are installed, machine, device."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "machine": f"{platform.system()} {platform.machine()}, {processor()}, {os.cpu_count()} logical cores",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def commit() -> str | None:
    """The commit of this code, with "+" if files differ from it; where git cannot tell, the variable GIT_COMMIT."""
    if not (ROOT / ".git").exists():
        return os.environ.get("GIT_COMMIT")
    try:
        found = _git("rev-parse", "HEAD")
        return f"{found}+" if _git("status", "--porcelain", "--untracked-files=no") else found
    except (OSError, subprocess.SubprocessError):  # no git here, or a folder of another owner
        return os.environ.get("GIT_COMMIT")


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if sys.platform == "linux" else []
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
