"""WaveRNN's native loop: it computes what torch does, in every precision and variant, however it is split up."""

from __future__ import annotations

import _thread
import platform
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from utils.native.build import NoCompiler
from utils.weights.checkpoint import load_weights
from utils.weights.networks import load_into
from vocoder.config import WaveRNNConfig
from vocoder.wavernn import native as kernel
from vocoder.wavernn.generate import Folds, Generation, fold, generate, generate_samples
from vocoder.wavernn.guide import emphasized, guide_inputs
from vocoder.wavernn.library import library
from vocoder.wavernn.native import FLOAT32, INT8, SPARSE, NativeLoop, Packed
from vocoder.wavernn.network import WaveRNN
from vocoder.wavernn.published import published_config, published_state
from vocoder.wavernn.quantize import label_to_float
from vocoder.wavernn.sample_loop import Frames, TorchLoop, Weights

# no size is a multiple of 16
ODD = WaveRNNConfig(
    rnn_size=20, fc_size=36, bits=3, pad=1, upsample=(3, 4), compute_size=8, res_out_size=12, res_blocks=1
)
# flag of the processor -> compiler flags that leave out everything better
VARIANTS = {
    "plain C": (None, ("-DPLAIN", "-O1")),
    "SSE": (None, ("-march=x86-64", "-O1")),
    "AVX2": ("avx2", ("-march=x86-64-v3", "-O1")),
    "AVX VNNI": ("avx_vnni", ("-march=x86-64-v3", "-mavxvnni", "-O1")),
    "AVX-512": ("avx512bw", ("-march=x86-64-v4", "-O1")),
    "AVX-512 VNNI": ("avx512_vnni", ("-march=x86-64-v4", "-mavx512vnni", "-O1")),
}


@pytest.fixture(scope="module", autouse=True)
def compiler():
    try:
        return library()
    except NoCompiler as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["published layout", "odd sizes", "guided"])
def model(request, data_dir):
    torch.manual_seed(3)
    if request.param != "published layout":
        made = WaveRNN(ODD if request.param == "odd sizes" else replace(ODD, guide_taps=8), 13)
        for layer in made.upsample.up_layers[1::2]:
            torch.nn.init.normal_(layer.weight)
    else:
        checkpoint = load_weights(data_dir / "wavernn_tiny.pt", "vocoder")
        made = WaveRNN(*published_config(checkpoint.state))
        load_into(made, checkpoint, published_state(checkpoint.state))
    return made.eval().requires_grad_(False)


def mel_of(model: WaveRNN, n_frames: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(8)
    return torch.randn(model.n_mels, n_frames + 2 * model.config.pad, generator=generator)


def guide_of(model: WaveRNN, mel: torch.Tensor) -> torch.Tensor | None:
    """(1, F * hop + guide_taps) for `model`, where it hears a guide; of mel (M, F + 2 * pad)"""
    if not model.config.guide_taps:
        return None
    samples = (mel.size(1) - 2 * model.config.pad) * Weights.of(model).hop_length
    wav = 0.3 * torch.randn(1, samples, generator=torch.Generator().manual_seed(4))
    return guide_inputs(emphasized(wav, model.config), model.config)


def frames_of(model: WaveRNN, mel: torch.Tensor) -> Frames:
    guide = guide_of(model, mel)
    return Weights.of(model).frames(mel, model.upsample.resnet(mel[None])[0], None if guide is None else guide[0])


def draws_for(n: int, steps: int) -> np.ndarray:
    return np.random.default_rng(5).random((n, steps, 1), dtype=np.float32)


def run(packed: Packed, frames: Frames, starts: list[int], steps: int, **how) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels (N, steps), logits (N, steps, outputs)"""
    logits = np.empty((len(starts), steps, packed.model.outputs), np.float32)
    loop = NativeLoop(packed, len(starts), **how)
    labels = loop.run(frames, starts, draws_for(len(starts), steps), logits)
    return labels, torch.from_numpy(logits[:, :, : packed.model.labels].copy())


def logits_of_torch(weights: Weights, frames: Frames, starts: list[int], labels: torch.Tensor) -> torch.Tensor:
    """The torch loop's logits after the same samples."""
    loop, logits = TorchLoop(weights, len(starts)), []
    for t in range(labels.size(1)):
        logits.append(loop.step(frames, torch.tensor(starts)))
        loop.x = label_to_float(labels[:, t], weights.levels).unsqueeze(1)
    return torch.stack(logits, dim=1)


def divergence(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Mean Kullback-Leibler divergence in nats of our distributions from theirs"""
    p, q = theirs.double().log_softmax(dim=-1), ours.double().log_softmax(dim=-1)  # it is less than float32's rounding
    return float((p.exp() * (p - q)).sum(dim=-1).mean())


def test_float_logits_are_those_of_the_module(model):
    mel, hop = mel_of(model), Weights.of(model).hop_length
    frames, steps = frames_of(model, mel), 4 * hop
    labels, logits = run(Packed(Weights.of(model), "fp32"), frames, [0], steps)
    x = torch.cat([torch.zeros(1, 1), label_to_float(labels[:, :-1], 2**model.config.bits)], dim=1)
    torch.testing.assert_close(logits, model(x, mel[None], guide_of(model, mel)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision, atol, bound", [("fp32", 1e-4, 1e-4**2 / 2), ("int8", 0.2, 2e-4)])
def test_many_folds_some_of_them_past_the_end(model, precision, atol, bound):
    """More folds than fit one pass over the weights. Logits within `atol` are distributions within atol ** 2 / 2."""
    weights = Weights.of(model)
    frames, starts = frames_of(model, mel_of(model)), [n * weights.hop_length // 2 for n in range(8)]
    labels, logits = run(Packed(weights, precision), frames, starts, 60)
    expected = logits_of_torch(weights, frames, starts, labels)
    torch.testing.assert_close(logits, expected, atol=atol, rtol=0)
    assert divergence(logits, expected) < bound


@pytest.mark.parametrize("greedy", [False, True])
def test_the_same_seed_gives_the_samples_of_torch(model, greedy):
    mel = mel_of(model, 3)
    hop = Weights.of(model).hop_length
    how = Generation(target=2 * hop, overlap=4, greedy=greedy, kernel="torch")
    guide = 0.3 * torch.randn((mel.size(1) - 1) * hop) if model.config.guide_taps else None
    slow, fast = (generate(model, mel, seed=7, how=replace(how, kernel=k), guide=guide) for k in ("torch", "fp32"))
    np.testing.assert_allclose(slow, fast, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_threads_and_blocks_change_nothing(model, precision):
    weights = Weights.of(model)
    frames, starts, packed = frames_of(model, mel_of(model)), [0, 5, 9, 14, 20, 40, 41], Packed(weights, precision)
    draws = draws_for(7, 50)
    whole = NativeLoop(packed, 7).run(frames, starts, draws)
    loop = NativeLoop(packed, 7, threads=3)
    parts = [loop.run(frames, starts, draws[:, a:b]) for a, b in ((0, 13), (13, 14), (14, 50))]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    alone = NativeLoop(packed, 1, threads=4).run(frames, starts[4:5], draws[4:5])
    assert torch.equal(alone, whole[4:5])


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_variants_agree(model, precision, name):
    flag, tuning = VARIANTS[name]
    if platform.machine() != "x86_64" and name != "plain C":
        pytest.skip("for x86-64")
    if flag and flag not in processor_flags():
        pytest.skip(f"the processor has no {flag}")
    weights, frames = Weights.of(model), frames_of(model, mel_of(model))
    other = Packed(weights, precision, tuning)
    assert other.library.variant().decode() == ("plain C" if name == "SSE" else name)
    labels, logits = run(other, frames, [0, 10], 40)
    expected_labels, expected = run(Packed(weights, precision), frames, [0, 10], 40)
    assert torch.equal(labels, expected_labels)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def processor_flags() -> set[str]:
    facts = Path("/proc/cpuinfo")
    if not facts.is_file():
        pytest.skip("no /proc/cpuinfo to tell what the processor can do")
    return set(next(line for line in facts.read_text().splitlines() if line.startswith("flags")).split())


def pruned(weights: Weights, kept: float) -> Weights:
    """Blocks of 16 rows x 1 column set to zero at random, within each gate."""

    def prune(w: torch.Tensor, gates: int) -> torch.Tensor:
        each, generator = w.size(0) // gates, torch.Generator().manual_seed(2)
        mask = torch.rand(gates, -(-each // 16), w.size(1), generator=generator) < kept
        return w * mask.repeat_interleave(16, dim=1)[:, :each].reshape(w.shape)

    names = {"gru1": 3, "gru2_in": 3, "gru2": 3, "fc1": 1, "fc2": 1, "fc3": 1}
    return replace(weights, **{name: prune(getattr(weights, name), gates) for name, gates in names.items()})


@pytest.mark.parametrize("kept", [0.0, 0.05, 0.3])
def test_sparse_is_dense_with_the_same_zeros(model, kept, monkeypatch):
    weights, frames = pruned(Weights.of(model), kept), frames_of(model, mel_of(model))
    starts = [0, 3, 30, 31, 32, 36]
    sparse = Packed(weights, "fp32")
    assert sparse.model.gru1.kind == SPARSE
    labels, logits = run(sparse, frames, starts, 40)
    monkeypatch.setattr(kernel, "SPARSE_FROM", {"fp32": 2.0})
    dense = Packed(weights, "fp32")
    assert dense.model.gru1.kind == FLOAT32
    expected_labels, expected = run(dense, frames, starts, 40)
    assert torch.equal(labels, expected_labels)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kept, fp32, int8", [(1, FLOAT32, INT8), (0.4, SPARSE, INT8), (0.1, SPARSE, SPARSE)])
def test_what_is_stored_sparsely(kept, fp32, int8):
    weights = pruned(Weights.of(WaveRNN(WaveRNNConfig(rnn_size=64, fc_size=64), 80)), kept)
    for precision, kind in (("fp32", fp32), ("int8", int8)):
        model = Packed(weights, precision).model
        assert {m.kind for m in (model.gru1, model.gru2_in, model.gru2, model.fc1, model.fc2, model.fc3)} == {kind}


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_it_soon_and_harms_nothing(threads):
    model = WaveRNN(WaveRNNConfig(rnn_size=64, fc_size=64), 80).eval().requires_grad_(False)
    weights, frames, folds = Weights.of(model), frames_of(model, mel_of(model)), Folds([0, 1, 2], 10**7)
    packed, seen = Packed(weights, "fp32"), []
    loop = NativeLoop(packed, 3, threads=threads)
    loop.run(frames, folds.starts, draws_for(3, 10))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        draw, deadline = draws_for(3, 200), time.monotonic() + 600
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.2, _thread.interrupt_main).start()
            while time.monotonic() < deadline:
                loop.run(frames, folds.starts, draw)
    finally:
        signal.signal(signal.SIGINT, handler)
    short = Folds([0, 1, 2], 300)
    before = generate_samples(NativeLoop(packed, 3), frames, short, 1)

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_samples(NativeLoop(packed, 3, threads=threads), frames, short, 1, interrupt)
    assert seen == [(200, 300)]
    assert torch.equal(generate_samples(NativeLoop(packed, 3, threads=threads), frames, short, 1), before)


def test_ctrl_c_waits_for_the_other_threads(model):
    ended = []

    def pretend(*_) -> int:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.2)
        ended.append(True)
        return 0

    packed = Packed(Weights.of(model), "fp32")
    loop = NativeLoop(packed, 2, threads=2)
    packed.library = SimpleNamespace(run=pretend)
    with pytest.raises(KeyboardInterrupt):
        loop.run(frames_of(model, mel_of(model)), [0, 1], draws_for(2, 10))
    assert ended


def test_how_the_folds_of_an_utterance_are_shared_out(model):
    hop = Weights.of(model).hop_length
    n = len(fold(40 * hop, Generation(target=4 * hop, overlap=hop)).starts)
    loop = NativeLoop(Packed(Weights.of(model), "int8"), n, threads=3)
    assert n == 8 and [len(share) for share in loop.shares] == [3, 3, 2]
