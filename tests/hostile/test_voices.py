"""A voice from somebody else: taken or refused in one line, whatever its file says, and shown without harm."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

import make_voice
from tests.hostile.checkpoints import NUMBERS, _safetensors, taken_apart
from utils.errors import CloningError
from utils.library import Library
from utils.voice import Voice, unit

pytestmark = pytest.mark.slow

MORE = (1e5, -1e5, 1e308, -(10**30), "\x1b[2J", ["\x1b]0;x\x07"], ["x"] * 3, "x" * 100_000, "a\nb")


@pytest.fixture
def library(tmp_path, monkeypatch) -> Library:
    monkeypatch.chdir(tmp_path)
    library = Library()
    embedding = unit(np.ones(8, np.float32))
    library.save("ann", Voice(embedding, "abc", 0.3, 0.2, 1.9, np.zeros((4, 8), np.float32), "def", -20.0, 5.0))
    return library


def shown(capsys) -> str:
    """What the script tells of all voices, and of ann: never a traceback, never a control character."""
    assert make_voice.main(["--list"]) == 0
    assert make_voice.main(["--info", "ann"]) in (0, 2)
    make_voice.main(["--blend", "ann=1,henry=1", "--name", "both", "--force"])
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).split("\n")
    assert all(line.isprintable() for line in lines) and "Traceback" not in captured.err
    return captured.out


def test_whatever_its_header_says(library, capsys):
    path = library.path("ann")
    header, mapped = taken_apart(path)
    state = {name: tensor.clone() for name, tensor in mapped.items()}  # not what lies in the file that is written to
    facts = json.loads(header["config"])
    taken = 0
    for name in facts:
        for value in (*NUMBERS, *MORE):
            path.write_bytes(_safetensors({**header, "config": json.dumps({**facts, name: value})}, state))
            try:
                Voice.load(path)
                taken += 1
            except CloningError as error:
                assert str(error).isprintable()
            shown(capsys)
    assert taken > 20


def test_files_damaged_by_chance(library, capsys):
    path = library.path("ann")
    whole = path.read_bytes()
    chance = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3, 20))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged[: chance.choice((len(damaged), len(damaged), chance.randrange(len(damaged))))])
        try:
            Voice.load(path)
        except CloningError as error:
            assert str(error).isprintable()
    shown(capsys)
