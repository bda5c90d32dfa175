"""The mean of weights: shares, what is kept of the first, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from utils.errors import CloningError
from utils.weights import average as script
from utils.weights.average import average
from utils.weights.checkpoint import Header, fingerprint, load_weights, save_weights


def saved(path: Path, value: float, kind: str = "encoder", **more: torch.Tensor) -> Path:
    state = {"weight": torch.full((2, 3), float(value)), "count": torch.tensor(round(value)), **more}
    save_weights(path, Header(kind, {"size": 3}, step=round(value)), state)
    return path


def test_each_file_has_its_share(tmp_path):
    files = [saved(tmp_path / f"{value}.safetensors", value) for value in (1, 2, 6)]
    for shares, expected in ((None, 3.0), ([0.2, 0.4, 0.4], 3.4), ([2, 1, 1], 2.5), ([0, 0, 3], 6.0)):
        mark = average(tmp_path / "mean.safetensors", files, shares)
        found = load_weights(tmp_path / "mean.safetensors")
        assert found.fingerprint == mark == fingerprint(found.state)
        torch.testing.assert_close(found.state["weight"], torch.full((2, 3), expected))
        assert (int(found.state["count"]), found.step, found.config) == (1, 1, {"size": 3})  # the first's
        assert [part["fingerprint"] for part in found.extra["average_of"]] == [
            load_weights(x).fingerprint for x in files
        ]
        assert sum(part["share"] for part in found.extra["average_of"]) == pytest.approx(1)


def test_one_file_is_its_own_mean(tmp_path):
    one = saved(tmp_path / "one.safetensors", 0.3)
    assert average(tmp_path / "mean.safetensors", [one, one]) == load_weights(one).fingerprint


@pytest.mark.parametrize("shares", [[1.0], [0.0, 0.0], [2.0, -1.0], [1.0, float("inf")], [1.0, 1.0, 1.0]])
def test_shares_that_say_nothing(tmp_path, shares):
    files = [saved(tmp_path / f"{value}.safetensors", value) for value in (1, 2)]
    with pytest.raises(CloningError, match="shares for 2 files: give each file one"):
        average(tmp_path / "mean.safetensors", files, shares)
    assert not (tmp_path / "mean.safetensors").exists()


def test_networks_that_differ(tmp_path, capsys):
    one = saved(tmp_path / "one.safetensors", 1)
    for other in (
        saved(tmp_path / "kind.safetensors", 1, kind="vocoder"),
        saved(tmp_path / "more.safetensors", 1, bias=torch.zeros(2)),
        saved(tmp_path / "shape.safetensors", 1, weight=torch.zeros(3, 2)),
    ):
        assert script.main([str(tmp_path / "mean.safetensors"), str(one), str(other)]) == 2
        assert f"{other} is of another network than {one}" in capsys.readouterr().err
