"""`~` in the paths of every script is the home folder, also where no shell has replaced it (`--out=~/set`)."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

import pytest

SCRIPTS = [f"{stage}_{step}" for stage in ("encoder", "synthesizer", "vocoder") for step in ("preprocess", "train")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_home_is_known_to_all_paths_of_a_script(name):
    parser = importlib.import_module(name).build_parser()
    paths = [a for a in parser._actions if a.type is not None and a.type not in (int, float, str)]
    assert any("--out" in action.option_strings for action in paths)
    for action in paths:
        assert action.type is not Path, action.dest
        if isinstance(found := convert(action, "~/set"), Path):
            assert found == Path(os.path.expanduser("~")) / "set", action.dest


def convert(action: argparse.Action, value: str) -> object:
    try:
        return action.type(value)
    except (ValueError, argparse.ArgumentTypeError):
        return None  # of another kind than a path
