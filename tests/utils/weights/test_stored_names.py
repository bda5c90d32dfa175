"""Attributes have other names in files: states load both ways, through parents, copies and other processes."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from utils.weights.stored_names import store_as


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(2, 3)
        self.leaves = nn.Linear(3, 1)  # begins alike
        store_as(self, {"output": "leave"})


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.output = Inner(), Inner()
        self.scale = nn.Parameter(torch.ones(2))
        store_as(self, {"scale": "gain"})


NAMES = ["gain", *(f"{part}.{name}.{kind}" for part in ("first", "output") for name in ("leave", "leaves")
                   for kind in ("weight", "bias"))]  # fmt: skip


@pytest.mark.parametrize("through", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_states_have_the_names_of_files_and_load_strictly(through):
    source, target = through(Outer()), through(Outer())
    state = source.state_dict()
    assert list(state) == NAMES
    target.load_state_dict(state)
    for (name, own), other in zip(source.named_parameters(), target.parameters(), strict=True):
        assert torch.equal(own, other), name
    assert "first.output.weight" in dict(source.named_parameters())
    assert list(state) == NAMES, "what was loaded from is left as it is"


def test_a_tensor_that_is_missing_or_unknown_is_refused():
    state = Outer().state_dict()
    with pytest.raises(RuntimeError, match="[Mm]issing"):
        Outer().load_state_dict({name: value for name, value in state.items() if name != "first.leave.weight"})
    with pytest.raises(RuntimeError, match="[Uu]nexpected"):
        Outer().load_state_dict({**state, "first.other.weight": torch.ones(1)})
