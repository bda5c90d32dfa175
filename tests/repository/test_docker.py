"""The Dockerfile, as far as it can be read without Docker: nothing it copies is missing, and it keeps good habits."""

from __future__ import annotations

import fnmatch
import json
import re

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n\s*", "", "\n".join(line for line in TEXT.splitlines() if not line.startswith("#"))).splitlines()
STEPS = [tuple(line.split(maxsplit=1)) for line in LINES if line]
IGNORED = [
    line.strip("/").removeprefix("**/")
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in STEPS if name == instruction]


def ignored(path: str) -> bool:
    return any(fnmatch.fnmatch(part, pattern) for part in path.split("/") for pattern in IGNORED)


def test_its_base_is_named_by_version_and_new_enough():
    (base,) = arguments("FROM")
    version = re.fullmatch(r"python:3\.(\d+)-slim", base)
    assert version and int(version[1]) >= 11


def test_what_it_copies_is_there_and_not_ignored():
    for line in arguments("COPY"):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists() and not ignored(source)
    for needed in ("app.py", "web/page.py", ".streamlit/config.toml", "saved_models/default/encoder.safetensors",
                   "samples/austen_0870.wav", "utils/doctor.py", "synthesizer/text/english/words.toml"):  # fmt: skip
        assert (ROOT / needed).exists() and not ignored(needed), needed


def test_packages_come_before_the_code_and_from_the_list():
    names = [name for name, _ in STEPS]
    install = next(i for i, (name, rest) in enumerate(STEPS) if name == "RUN" and "pip install" in rest)
    assert "--no-cache-dir" in STEPS[install][1] and "-r requirements.txt -r requirements/app.txt" in STEPS[install][1]
    assert [rest.split()[0] for _, rest in STEPS[install - 2 : install]] == ["requirements.txt", "requirements/app.txt"]
    assert install < names.index("COPY", install) and "apt" not in " ".join(arguments("RUN"))


def test_it_does_not_run_as_root_and_starts_the_page():
    names = [name for name, _ in STEPS]
    assert names.index("USER") < names.index("CMD") and arguments("USER") != ["root"]
    command = json.loads(arguments("CMD")[0])
    assert command[:5] == ["python", "-m", "streamlit", "run", "app.py"]
    assert "127.0.0.1:8501:8501" in TEXT and arguments("EXPOSE") == ["8501"]


def test_what_was_made_here_stays_out():
    for path in (".git/config", ".venv/bin/python", "runs/a/best.safetensors", "data/x", "out/demo.wav",
                 "utils/__pycache__/audio.pyc", "tests/conftest.py"):  # fmt: skip
        assert ignored(path), path
