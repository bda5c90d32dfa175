"""Laws of weights on disk: exact round trips, no code from a pickle, one clear line for what cannot be read."""

from __future__ import annotations

import pickle
import struct
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from utils.errors import CloningError
from utils.version import VERSION
from utils.weights import export
from utils.weights.checkpoint import (
    Header,
    fingerprint,
    load_training_state,
    load_weights,
    read_header,
    save_training_state,
    save_weights,
)
from utils.weights.networks import load_into, rebuild, warm_start

KINDS = {"encoder": "encoder", "wavernn": "vocoder", "tacotron": "synthesizer"}


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(3, 4, generator=generator),
        "a.bias": torch.randn(3, generator=generator).t(),
        "steps": torch.tensor([7]),
        "view": torch.randn(4, 6, generator=generator)[:, ::2],
    }


HEADER = Header(
    "encoder",
    {"layers": 3, "name": "naïve"},
    mel={"n_mels": 40},
    step=12,
    metrics={"eer": 0.05},
    extra={"encoder": "abc"},
)


def save(path, state, header=HEADER, **options):
    return save_weights(path, header, state, **options)


def one_line(path, message, **options):
    with pytest.raises(CloningError, match=message) as caught:
        load_weights(path, **options)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_round_trip(tmp_path, state):
    mark = save(tmp_path / "new" / "x.safetensors", state)
    found = load_weights(tmp_path / "new" / "x.safetensors", "encoder")
    assert found.state.keys() == state.keys()
    assert all(torch.equal(found.state[name], state[name]) for name in state)
    assert (found.kind, found.step, found.published, found.fingerprint) == ("encoder", 12, False, mark)
    assert found.config == {"layers": 3, "name": "naïve"} and found.mel == {"n_mels": 40}
    assert found.metrics == {"eer": 0.05} and found.extra == {"encoder": "abc"}
    assert not list(tmp_path.rglob("*.partial"))


def test_half_precision_keeps_the_fingerprint(tmp_path, state):
    full = save(tmp_path / "full.safetensors", state)
    half = save(tmp_path / "half.safetensors", state, dtype="float16")
    assert full == half == fingerprint(state)
    found = load_weights(tmp_path / "half.safetensors")
    assert found.state["a.weight"].dtype == torch.float32 and found.state["steps"].dtype == torch.int64
    assert torch.allclose(found.state["a.weight"], state["a.weight"], atol=2e-3)
    assert fingerprint(found.state) == full
    assert (tmp_path / "half.safetensors").stat().st_size < (tmp_path / "full.safetensors").stat().st_size


def test_int8_moves_no_weight_by_more_than_half_a_step_of_its_row(tmp_path, state):
    state["wide"] = torch.randn(5, 8, 3) * torch.tensor([1e-3, 1, 0, 50, 2]).view(-1, 1, 1)
    mark = save(tmp_path / "x.safetensors", state, dtype="int8")
    found = load_weights(tmp_path / "x.safetensors")
    assert found.state.keys() == state.keys() and found.fingerprint == mark == fingerprint(found.state)
    for name, value in state.items():
        assert found.state[name].shape == value.shape
        if value.ndim > 1:
            step = value.flatten(1).abs().amax(dim=1) / 127
            off = (found.state[name] - value).flatten(1).abs().amax(dim=1)
            assert (off <= 0.501 * step).all() and off.max() > 0.2 * step[off.argmax()]
    assert torch.equal(found.state["steps"], state["steps"])
    torch.testing.assert_close(found.state["a.bias"], state["a.bias"], atol=2e-3, rtol=0)
    # stored again, it is the same
    assert save(tmp_path / "again.safetensors", found.state, dtype="int8") == mark
    assert read_header(tmp_path / "x.safetensors")["format"] == 2


def test_int8_is_a_quarter_of_the_size_and_can_be_a_base(tmp_path):
    state = {"one": torch.randn(96, 64), "two": torch.randn(96, 64)}
    sizes = []
    for dtype in ("float32", "int8"):
        save(tmp_path / "x.safetensors", state, dtype=dtype)
        sizes.append((tmp_path / "x.safetensors").stat().st_size)
    assert sizes[1] < 0.3 * sizes[0]
    base = load_weights(tmp_path / "x.safetensors")
    changed = {**base.state, "two": base.state["two"] + 0.01}
    mark = save(tmp_path / "y.safetensors", changed, dtype="int8", base=base)
    assert (tmp_path / "y.safetensors").stat().st_size < 0.7 * sizes[1]
    found = load_weights(tmp_path / "y.safetensors")
    assert torch.equal(found.state["one"], base.state["one"]) and found.fingerprint == mark == fingerprint(found.state)


def test_fingerprint_sees_names_shapes_and_values(state):
    marks = {fingerprint(state)}
    marks.add(fingerprint({**state, "a.bias": state["a.bias"] + 1}))
    marks.add(fingerprint({**state, "a.weight": state["a.weight"].reshape(4, 3)}))
    marks.add(fingerprint({("b" + n if n == "steps" else n): t for n, t in state.items()}))
    assert len(marks) == 4
    assert fingerprint(dict(reversed(state.items()))) == fingerprint(state)


def test_tied_weights_are_saved(tmp_path):
    weight = torch.randn(2, 2)
    save(tmp_path / "x.safetensors", {"a": weight, "b": weight})
    assert torch.equal(load_weights(tmp_path / "x.safetensors").state["b"], weight)


@pytest.mark.parametrize("name", ["encoder", "wavernn", "tacotron"])
@pytest.mark.parametrize("legacy", [False, True])
def test_published_files_of_both_formats(data_dir, tmp_path, name, legacy):
    path = data_dir / f"{name}_tiny.pt"
    if legacy:  # as torch before 1.6 wrote it
        content = torch.load(path, weights_only=True)
        path = tmp_path / path.name
        torch.save(content, path, _use_new_zipfile_serialization=False)
    found = load_weights(path, KINDS[name])
    assert found.kind == KINDS[name] and found.published and found.config == {} and found.mel is None
    assert all(isinstance(t, torch.Tensor) and t.device.type == "cpu" for t in found.state.values())
    assert found.fingerprint == load_weights(data_dir / f"{name}_tiny.pt").fingerprint


def test_bare_state_dict_of_a_vocoder(data_dir):
    bare, full = load_weights(data_dir / "wavernn_tiny_bare.pt"), load_weights(data_dir / "wavernn_tiny.pt")
    assert bare.kind == "vocoder" and bare.state.keys() == full.state.keys()


class Malicious:
    """Touches a file when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, zipped):
    trap, path = tmp_path / "trap", tmp_path / "encoder.pt"
    content = {"model_state": {"lstm.weight_ih_l0": torch.zeros(2)}, "step": Malicious(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    one_line(path, "refused: it is not plain weights")
    with pytest.raises(CloningError, match="refused"):
        load_training_state(path)
    path.write_bytes(pickle.dumps(content["step"]))
    one_line(path, "refused|not a checkpoint")
    assert not trap.exists()
    pickle.loads(pickle.dumps(content["step"])).close()
    assert trap.exists()  # the trap does work


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["ours", "encoder_tiny.pt", "encoder_tiny_legacy.pt"])
def test_cut_off_files(tmp_path, data_dir, state, name, part):
    path = tmp_path / "cut"
    if name == "ours":
        save(path, state)
        content = path.read_bytes()
    else:
        content = (data_dir / name).read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    one_line(path, "damaged|cut off|not a checkpoint")


@pytest.mark.parametrize(
    "content", [b"hello, this is no checkpoint\n" * 9, b"RIFF$\x00\x00\x00WAVEfmt ", bytes(1000), bytes(range(256)) * 8]
)
def test_other_files_are_not_called_dangerous(tmp_path, content):
    path = tmp_path / "voice.pt"
    path.write_bytes(content)
    one_line(path, "damaged|not a checkpoint")


@pytest.mark.parametrize(
    "content",
    [3, [1, 2], {}, {"model_state": None}, {"model_state": {"x": torch.zeros(1)}}, {"lstm.weight_ih_l0": "text"}],
)
def test_pt_files_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    one_line(tmp_path / "x.pt", "not a checkpoint")


def test_foreign_and_newer_safetensors(tmp_path, state):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"format": "pt"})
    one_line(path, "without our header")
    save_file({"a": torch.zeros(2)}, path)
    one_line(path, "without our header")
    save_file({"a": torch.zeros(2)}, path, metadata={"kind": '"encoder"', "format": "99"})
    one_line(path, "format 99, this version reads up to 2")
    header = b'{"a": nonsense}'
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    one_line(path, "damaged")


def test_kind_is_checked(tmp_path, state, data_dir):
    save(tmp_path / "x.safetensors", state)
    one_line(tmp_path / "x.safetensors", "expected a checkpoint of kind 'vocoder', found 'encoder'", kind="vocoder")
    one_line(data_dir / "encoder_tiny.pt", "of kind 'synthesizer', found 'encoder'", kind="synthesizer")


def test_missing_file_and_folder(tmp_path):
    one_line(tmp_path / "none.safetensors", "no such checkpoint")
    one_line(tmp_path, "no such checkpoint")
    with pytest.raises(CloningError, match=r"state\.pt: no such"):
        load_training_state(tmp_path / "state.pt")


def test_a_failed_save_leaves_the_old_file(tmp_path, state):
    path = tmp_path / "x.safetensors"
    mark = save(path, state)
    with pytest.raises(TypeError):
        save(path, {"a": torch.zeros(3)}, replace(HEADER, config={"not json": object()}))
    assert load_weights(path).fingerprint == mark
    old = tmp_path / "state.pt"
    save_training_state(old, {"step": 1})
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_training_state(old, {"step": lambda: 2})
    assert load_training_state(old) == {"step": 1}
    assert not list(tmp_path.rglob("*.partial"))


def test_training_state_round_trip(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_training_state(tmp_path / "state.pt", {"optimizer": optimizer.state_dict(), "step": 3, "seen": [1, "a", None]})
    found = load_training_state(tmp_path / "state.pt")
    assert found["step"] == 3 and found["seen"] == [1, "a", None]
    expected = optimizer.state_dict()["state"][0]
    assert all(torch.equal(found["optimizer"]["state"][0][name], expected[name]) for name in expected)


def test_load_into_fills_or_names_what_does_not_fit(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    save(tmp_path / "x.safetensors", model.state_dict())
    checkpoint = load_weights(tmp_path / "x.safetensors")
    other = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    load_into(other, checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    with pytest.raises(
        CloningError, match=r"1\.bias is \[1\] in the file, \[4\] in the model; .* and 1 more"
    ) as caught:
        load_into(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4), nn.Linear(4, 1, bias=False), nn.PReLU()), checkpoint)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "x.safetensors")) and "\n" not in message
    with pytest.raises(CloningError, match=r"1\.bias is unknown; 1\.weight is unknown"):
        load_into(nn.Sequential(nn.Linear(3, 2)), checkpoint)


def test_warm_start_copies_what_matches():
    model, source = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)), nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    own = warm_start(model, source.state_dict())
    assert own == ["1.bias", "1.weight"]
    assert torch.equal(model[0].weight, source[0].weight)


def test_an_exported_checkpoint_says_the_same_in_half_the_size(tmp_path, data_dir):
    state = {"weight": torch.randn(64, 64), "count": torch.tensor([3])}
    save(tmp_path / "run.safetensors", state)
    assert export.main([str(tmp_path / "run.safetensors"), str(tmp_path / "out" / "small.safetensors")]) == 0
    one, two = (load_weights(tmp_path / name) for name in ("run.safetensors", "out/small.safetensors"))
    for name in ("kind", "config", "mel", "step", "metrics", "extra", "fingerprint"):
        assert getattr(one, name) == getattr(two, name)
    torch.testing.assert_close(two.state["weight"], one.state["weight"], rtol=1e-3, atol=1e-6)
    assert torch.equal(two.state["count"], state["count"])
    assert two.path.stat().st_size < 0.6 * one.path.stat().st_size
    export.export(tmp_path / "run.safetensors", tmp_path / "set.safetensors", ["layers=4"])
    assert load_weights(tmp_path / "set.safetensors").config == {**one.config, "layers": 4}
    assert export.main([str(one.path), str(tmp_path / "int8.safetensors"), "--int8"]) == 0
    assert (tmp_path / "int8.safetensors").stat().st_size < 0.6 * two.path.stat().st_size
    save(
        tmp_path / "more.safetensors",
        {**state, "aid": torch.ones(9)},
        replace(HEADER, extra={"training_only": ["aid"]}),
    )
    export.export(tmp_path / "more.safetensors", tmp_path / "less.safetensors")
    more, less = (load_weights(tmp_path / name) for name in ("more.safetensors", "less.safetensors"))
    assert less.state.keys() == state.keys() and less.fingerprint == more.fingerprint == one.fingerprint
    with pytest.raises(CloningError, match="only ours are exported"):
        export.export(data_dir / "encoder_tiny.pt", tmp_path / "x.safetensors")


def test_a_network_that_will_be_filled_draws_nothing(tmp_path):
    class Truncated(nn.Module):  # drawn again until within bounds: never, if nothing were drawn
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((3,), 9.0))
            nn.init.trunc_normal_(self.weight, std=0.02)

    def build():
        layers = [nn.Linear(3, 4), nn.Conv1d(2, 3, 3), nn.GRU(2, 3), nn.Embedding(5, 2), nn.BatchNorm1d(3), Truncated()]
        return nn.ModuleList(layers)

    save(tmp_path / "w.safetensors", (trained := build()).state_dict())
    before = torch.get_rng_state()
    found = rebuild(build, load_weights(tmp_path / "w.safetensors"))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(
        torch.equal(a, b) for a, b in zip(trained.state_dict().values(), found.state_dict().values(), strict=True)
    )
    assert not torch.equal(build()[0].weight, build()[0].weight)  # outside, all is as it was


def test_the_header_names_the_version_that_wrote_it(tmp_path, state):
    save(tmp_path / "x.safetensors", state)
    assert (
        read_header(tmp_path / "x.safetensors")["version"]
        == load_weights(tmp_path / "x.safetensors").version
        == VERSION
    )


def test_files_from_before_there_were_versions_are_read(tmp_path, state):
    save(tmp_path / "x.safetensors", state)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    del header["version"]
    save_file(tensors, tmp_path / "x.safetensors", metadata=header)
    assert load_weights(tmp_path / "x.safetensors").version == ""
