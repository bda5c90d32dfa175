"""Look at an installation: what is there, what is missing, and the command that mends it. `python -m utils.doctor`

Exit code 0 when everything that cloning needs is there; what is optional and missing is told, and does not count.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from utils.files import require_checkout
from utils.scripts import exit_code

ROOT = Path(__file__).resolve().parent.parent
PYTHON = (3, 11)
STAGES = ("encoder", "synthesizer", "vocoder")
FORMATS = ("WAV", "FLAC", "OGG", "MP3")  # MP3 to write
COMPILERS = ("cc", "gcc", "clang")
FREE_GIB = 1.0
CORE = "requirements/core.txt"  # requirements.txt brings what evaluation needs too
# In a process of its own: whatever happens to it, the report goes on; and utils knows none of the stages.
KERNEL = "from vocoder.wavernn.library import library; print(library().variant().decode())"
OK, OPTIONAL, WRONG = "ok", "optional", "WRONG"


@dataclass(frozen=True)
class Finding:
    """One line of the report: how it stands ("optional": missing, not needed), what is there, and what mends it."""

    state: str
    name: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.state:9}{self.name:13}{self.what}"
        return f"{line}\n{'':22}-> {self.remedy}" if self.remedy else line


def examine(root: Path) -> list[Finding]:
    """Everything, in the order of the report."""
    checks = (
        python(),
        *packages(root),
        torch_build(),
        kernel(root),
        codecs(),
        *weights(root),
        *extras(root),
        disk(root),
    )
    return list(checks)


def python() -> Finding:
    """The version of Python."""
    version = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    if sys.version_info < PYTHON:
        return Finding(WRONG, "Python", version, f"install Python {'.'.join(map(str, PYTHON))} or newer")
    return Finding(OK, "Python", version)


def packages(root: Path) -> Iterator[Finding]:
    """What cloning and training need: one line when all is well, else one a package."""
    path = root / CORE
    problems = problems_of(path)
    if not problems:
        yield Finding(OK, "packages", f"{len(requirements(path))} of {CORE}, all there")
    for problem in problems:
        yield Finding(WRONG, "packages", problem, "python -m pip install -r requirements.txt")


def torch_build() -> Finding:
    """Whether torch can be imported, and which build it is."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that it is linked with is missing
        return Finding(WRONG, "torch", f"cannot be imported: {_first_line(error)}", "python -m pip install torch")
    what = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        return Finding(OK, "torch", f"{what}, CUDA {torch.version.cuda} on {torch.cuda.get_device_name()}")
    built = f"built for CUDA {torch.version.cuda}, but no GPU answers" if torch.version.cuda else "built without CUDA"
    return Finding(OK, "torch", f"{what}, CPU only ({built})")


def kernel(root: Path) -> Finding:
    """Loops of WaveRNN and Tacotron are compiled at first use; without a compiler they run in torch, much slower."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        remedy = "Debian: apt install gcc; macOS: xcode-select --install; WaveRNN and Tacotron are slow without"
        what = f"WaveRNN and Tacotron run in torch: none of {', '.join(COMPILERS)} found"
        return Finding(OPTIONAL, "kernel", what, remedy)
    try:
        done = subprocess.run([sys.executable, "-c", KERNEL], cwd=root, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return Finding(OPTIONAL, "kernel", f"WaveRNN's loop was not compiled by {compiler} within 2 minutes")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding(OPTIONAL, "kernel", f"WaveRNN runs in torch: {reason}", "look at the compiler's message")
    return Finding(OK, "kernel", f"WaveRNN in native code ({done.stdout.strip()}), compiled by {compiler}")


def codecs() -> Finding:
    """Which kinds of audio files can be read and written."""
    try:
        import soundfile
    except (ImportError, OSError) as error:
        remedy = "python -m pip install --force-reinstall soundfile"
        return Finding(WRONG, "audio files", f"soundfile cannot be imported: {_first_line(error)}", remedy)
    there = soundfile.available_formats()
    what = f"libsndfile {soundfile.__libsndfile_version__}"
    if missing := [name for name in FORMATS if name not in there]:
        remedy = "python -m pip install --force-reinstall soundfile (its wheels carry libsndfile 1.1 or newer)"
        return Finding(WRONG, "audio files", f"{what} cannot read {', '.join(missing)}", remedy)
    try:
        import av
    except (ImportError, OSError) as error:
        remedy = "python -m pip install --force-reinstall av"
        return Finding(WRONG, "audio files", f"av cannot be imported: {_first_line(error)}; no mp3, no m4a", remedy)
    return Finding(OK, "audio files", f"{what}: wav, flac, ogg; FFmpeg of av {av.__version__}: mp3, m4a, webm, wma")


def weights(root: Path) -> Iterator[Finding]:
    """Every checkpoint in saved_models, its tensors held against the fingerprint in its header."""
    folder = root / "saved_models"
    restore = "git checkout -- saved_models (or train it: README, Train)"
    for stage in STAGES:
        if not any((folder / "default" / f"{stage}{suffix}").is_file() for suffix in (".safetensors", ".pt")):
            yield Finding(WRONG, "weights", f"saved_models/default has no {stage}", restore)
    for path in sorted(p for p in folder.glob("*/*") if p.suffix in (".safetensors", ".pt")):
        yield _checkpoint(path, path.relative_to(root).as_posix(), restore)


def _checkpoint(path: Path, name: str, restore: str) -> Finding:
    try:
        from utils.errors import CloningError
        from utils.weights.checkpoint import fingerprint, load_weights
    except (ImportError, OSError) as error:
        return Finding(WRONG, "weights", f"{name} cannot be read: {_first_line(error)}")
    size = f"{path.stat().st_size / 2**20:.1f} MiB"
    try:
        checkpoint = load_weights(path)
    except CloningError as error:
        return Finding(WRONG, "weights", str(error), restore)
    found = fingerprint(checkpoint.state)
    if found != checkpoint.fingerprint:
        what = f"{name} is not what was saved: fingerprint {found}, its header says {checkpoint.fingerprint}"
        return Finding(WRONG, "weights", what, restore)
    config = checkpoint.config
    network = "published" if checkpoint.published else config.get("architecture") or config.get("model") or ""
    return Finding(OK, "weights", f"{name}: {network} {checkpoint.kind} {found}, {size}")


def extras(root: Path) -> Iterator[Finding]:
    """The other lists of packages: what each is for (its first line), and what it lacks."""
    for path in sorted(set((root / "requirements").glob("*.txt")) - {root / CORE}):
        problems, name = problems_of(path), path.relative_to(root).as_posix()
        if not problems:
            yield Finding(OK, "extra", f"{name}: all there")
        else:
            purpose = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").partition(":")[0]
            what = f"{name} ({purpose}): {'; '.join(problems)}"
            yield Finding(OPTIONAL, "extra", what, f"python -m pip install -r {name}")


def disk(root: Path) -> Finding:
    """Free space on the disk of `root`."""
    free = shutil.disk_usage(root).free / 2**30
    if free < FREE_GIB:
        return Finding(WRONG, "disk", f"{free:.1f} GiB free, {FREE_GIB:g} wanted", f"make room on the disk of {root}")
    return Finding(OK, "disk", f"{free:.0f} GiB free")


def requirements(path: Path) -> list[str]:
    """The lines of a requirements file that ask for a package, without comments and other files."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-")]


def problems_of(path: Path) -> list[str]:
    """One phrase for each package of a requirements file that is missing or of another version than asked for."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return ["the package packaging is missing"]
    problems = []
    for line in requirements(path):
        wanted = Requirement(line)
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            problems.append(f"{wanted.name} is {version}, wanted {wanted.specifier}")
    return problems


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))[:160] or type(error).__name__


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    argparse.ArgumentParser(prog="python -m utils.doctor", description=__doc__).parse_args(argv)
    return exit_code(_run)


def _run() -> int:
    require_checkout(ROOT / "requirements")
    findings = examine(ROOT)
    print(*findings, sep="\n")
    wrong = sum(finding.state == WRONG for finding in findings)
    print(f"\n{wrong} to mend before it works" if wrong else "\nready to clone")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
