"""A full disk is one line with a path; the same command goes on once there is room."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import pytest
import soundfile
import torch

import vocoder_preprocess
import vocoder_train
from tests.support import vocoder_set
from utils.errors import CloningError
from utils.files import atomic_path
from utils.native import build
from utils.scripts import exit_code
from utils.weights.checkpoint import Header, save_training_state, save_weights
from web import takes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of a process's files")


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """This process and those that it starts write no file of more than `size` bytes: a full disk for anybody."""
    import resource
    import signal

    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def one_line(errors: str, place: object) -> None:
    assert "Traceback" not in errors
    found = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(found) == 1 and str(place) in found[0] and errors.rstrip().endswith(found[0])


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_preprocessing_goes_on_after_a_full_disk(tmp_path, jobs, capfd):
    folder = tmp_path / "voices" / "ann"
    folder.mkdir(parents=True)
    for number in range(6):
        tone = 0.3 * np.sin(np.arange(32_000) * (0.05 + 0.01 * number))
        soundfile.write(folder / f"{number}.wav", tone, 16_000)
    command = [str(word) for word in (tmp_path / "voices", "--out", tmp_path / "set", "--jobs", jobs)]
    with no_file_beyond(20_000):
        assert vocoder_preprocess.main(command) == 2
    one_line(capfd.readouterr().err, tmp_path / "set")
    assert not [path for path in (tmp_path / "set").rglob("*") if "partial" in path.name or path.name[:4] == ".tmp"]
    assert vocoder_preprocess.main(command) == 0
    assert "6 utterances" in capfd.readouterr().out


@pytest.mark.slow
def test_training_goes_on_after_a_full_disk(tmp_path, capfd):
    vocoder_set.make_set(tmp_path / "set")
    flags = ["--config", "debug", "--device", "cpu", "--threads", "1"]
    command = [str(tmp_path / "set"), "--out", str(tmp_path / "run"), *flags]
    with no_file_beyond(30_000):
        assert vocoder_train.main(command) == 2
    one_line(capfd.readouterr().err, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert vocoder_train.main(command) == 0


def test_what_libraries_say_of_a_full_disk(tmp_path, monkeypatch):
    many = {"a": torch.zeros(100_000)}
    monkeypatch.setattr(takes, "FOLDER", tmp_path)
    take = takes.Take(**{field.name: "" for field in fields(takes.Take)} | {"wav": bytes(200_000)})
    with no_file_beyond(100_000):
        for write in (
            lambda: save_weights(tmp_path / "w", Header("encoder", {}), many),
            lambda: save_training_state(tmp_path / "s", many),
            lambda: takes.keep(take),
        ):
            with pytest.raises(CloningError, match=r"cannot write .*free"):
                write()
    assert not list(tmp_path.iterdir())


def test_other_faults_of_a_writer_are_not_hidden(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"):
        with atomic_path(tmp_path / "x"):
            raise RuntimeError("a bug")


def test_any_script_ends_in_one_line(capsys):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    assert exit_code(full) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "somewhere" in errors and "free" in errors


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "seven.c"
    path.write_text("int seven(void) { return 7; }\n", encoding="utf-8")
    build.library.cache_clear()
    yield path
    build.library.cache_clear()


def test_a_full_cache_is_no_missing_compiler(tmp_path, source, monkeypatch, caplog):
    """A compiler that finds no room in the cache, and room elsewhere."""
    real = next(filter(None, map(shutil.which, build.COMPILERS)), None)
    if real is None:
        pytest.skip("no C compiler")
    folder = tmp_path / "bin"
    folder.mkdir()
    fake = folder / build.COMPILERS[0]
    cache = tmp_path / "cache"
    fake.write_text(
        f'#!/bin/sh\ncase "$*" in *{cache}*) echo "ld: cannot write: No space left on device" >&2; exit 1;; esac\n'
        f'exec {real} "$@"\n',
        encoding="utf-8",
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(build, "cache_folder", lambda: cache)
    assert build.library(source).seven() == 7
    assert "No space left on device" in caplog.text and not list(cache.glob("*"))


def test_a_seal_that_is_no_text_is_made_anew(tmp_path, source, monkeypatch):
    if not any(map(shutil.which, build.COMPILERS)):
        pytest.skip("no C compiler")
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "cache")
    assert build.library(source).seven() == 7
    (seal,) = (tmp_path / "cache").glob("*.sha256")
    good = seal.read_bytes()
    seal.write_bytes(b"\xff\xfe\x00")
    build.library.cache_clear()
    assert build.library(source).seven() == 7
    assert seal.read_bytes() == good
