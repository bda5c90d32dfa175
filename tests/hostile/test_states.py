"""No `state.pt` of a training ends in a traceback or is gone on from where it does not fit the run."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.optim import AdamW

from tests.support.toy_task import Toy, settings_for
from utils.errors import CloningError
from utils.training.loop import train
from utils.training.resuming import read_state
from utils.weights.checkpoint import load_training_state, save_training_state

pytestmark = pytest.mark.slow

VALUES = (
    None, "x", -1, 10**30, float("nan"), True, [], {}, {"net": 3}, {1: 2}, [[]], torch.zeros(()), torch.zeros(3),
    torch.full((8, 4), torch.nan), torch.zeros(2, 2, dtype=torch.complex64), torch.eye(3).to_sparse(),
)  # fmt: skip


def places(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """Where anything stands in nested dictionaries and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*place, key)
        yield from places(below, (*place, key))


def changed(state: dict, place: tuple, value: Any) -> dict:
    state = copy.deepcopy(state)
    inner = state
    for key in place[:-1]:
        inner = inner[key]
    if value is changed:  # leave it out
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return state


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(Toy(), settings_for(3, ema_decay=0.9), folder, device="cpu")
    return load_training_state(folder / "state.pt")


def cases(state: dict) -> list[Any]:
    # a run's optimizers have settings of their own: those that were saved are not read
    edits = [p for p in itertools.product(places(state), (*VALUES, changed)) if "param_groups" not in p[0]]
    edited = (changed(state, place, value) for place, value in random.Random(0).sample(edits, len(edits)))
    return [*VALUES, *edited]


def test_states_that_do_not_fit(whole, tmp_path, long):
    """Refused in one line, or as good as before: then the run ends as it should."""
    given, taken = cases(whole)[: None if long else 320], []
    for state in given:
        save_training_state(tmp_path / "state.pt", state)
        task = Toy()
        try:
            read_state(tmp_path / "state.pt", task, {n: AdamW(m.parameters()) for n, m in task.modules.items()})
        except CloningError as error:
            assert str(error).isprintable() and ("state.pt" in str(error) or "another model" in str(error))
        else:
            taken.append(state)
    assert len(given) >= 320 and len(taken) < 0.2 * len(given)
    for state in taken[: None if long else 5]:
        save_training_state(tmp_path / "state.pt", state)
        train(Toy(), settings_for(4, ema_decay=0.9), tmp_path, device="cpu")


def test_a_training_refuses_in_one_line(whole, tmp_path):
    for place in (("modules",), ("optimizers", "net", "state", 0, "exp_avg"), ("step",), ("ema", "0.bias")):
        save_training_state(tmp_path / "state.pt", changed(whole, place, "x"))
        with pytest.raises(CloningError, match=f"state.pt: damaged, or of another version: {place[0]}"):
            train(Toy(), settings_for(4, ema_decay=0.9), tmp_path, device="cpu")
