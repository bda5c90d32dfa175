"""WaveRNN: the recorded outputs, folding, free running equal to teacher forcing, seeds."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from utils.errors import CloningError
from utils.weights.checkpoint import load_weights
from utils.weights.networks import load_into
from vocoder.config import WaveRNNConfig
from vocoder.loss import mixture_loss
from vocoder.wavernn.fold import crossfade, fold_starts
from vocoder.wavernn.generate import (
    Folds,
    Generation,
    best_kernel,
    finish,
    fold,
    generate,
    generate_samples,
    uniform_draws,
)
from vocoder.wavernn.network import UpsampledConditioning, WaveRNN
from vocoder.wavernn.published import published_config, published_state
from vocoder.wavernn.quantize import label_to_float
from vocoder.wavernn.sample_loop import Frames, TorchLoop, Weights, draw_label

RECORDED = {
    "sampled": Generation(target=1200, overlap=200, published=True),
    "greedy": Generation(target=1200, overlap=200, published=True, greedy=True),
    "sampled_unbatched": Generation(folded=False, published=True),
}
ODD = WaveRNNConfig(
    rnn_size=12, fc_size=20, bits=8, pad=1, upsample=(3, 4), compute_size=8, res_out_size=12, res_blocks=1
)


@pytest.fixture(scope="module")
def recorded(data_dir):
    return {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(data_dir / "wavernn_tiny.npz").items()}


@pytest.fixture(scope="module")
def dsp(data_dir):
    return {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(data_dir / "vocoder_dsp.npz").items()}


def load(path) -> WaveRNN:
    checkpoint = load_weights(path, "vocoder")
    model = WaveRNN(*published_config(checkpoint.state))
    load_into(model, checkpoint, published_state(checkpoint.state))
    return model.eval()


@pytest.fixture(scope="module")
def tiny(data_dir):
    return load(data_dir / "wavernn_tiny.pt").requires_grad_(False)


def frames_of(model: WaveRNN, mel: torch.Tensor) -> Frames:
    """mel (M, F + 2 * pad) as the network reads it"""
    with torch.no_grad():
        return Weights.of(model).frames(mel, model.upsample.resnet(mel[None])[0])


def samples_of(model: WaveRNN, frames: Frames, folds: Folds, seed: int, *, greedy: bool = False, progress=None):
    return generate_samples(
        TorchLoop(Weights.of(model), len(folds.starts), greedy=greedy), frames, folds, seed, progress
    )


def stepped_logits(model: WaveRNN, frames: Frames, start: int, x: torch.Tensor) -> torch.Tensor:
    """The loop's logits (T, outputs) where the samples before are x (T,), from sample `start` of the frames on."""
    loop, logits = TorchLoop(Weights.of(model), 1), []
    for t in range(len(x)):
        loop.x = x[t].view(1, 1)
        logits.append(loop.step(frames, torch.tensor([start]))[0])
    return torch.stack(logits)


def close(a, b, tolerance):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


@pytest.mark.parametrize("layout", ["", "_bare"])
def test_published_layouts_load(data_dir, recorded, layout):
    model = load(data_dir / f"wavernn_tiny{layout}.pt")
    with torch.no_grad():
        logits = model(recorded["forward/x"], recorded["forward/mels"])
    close(logits[:, ::52], recorded["forward/logits_every_52"], 1e-4)


def test_names_and_shapes_are_the_published_ones(data_dir):
    import json

    listed = json.loads((data_dir / "state_dicts.json").read_text(encoding="utf-8"))["vocoder"]["model_state"]
    own = {name: list(tensor.shape) for name, tensor in WaveRNN(WaveRNNConfig(), 80).state_dict().items()}
    assert {name: shape for name, shape, _ in listed if name != "step"} == own


def test_not_a_wavernn_is_one_line():
    with pytest.raises(CloningError, match="published layout"):
        published_config({"upsample.resnet.conv_in.weight": torch.zeros(4, 80, 5)})


def test_recorded_conditioning(tiny, recorded):
    seen = tiny.upsample(recorded["mel"])
    close(tiny.upsample.resnet(recorded["mel"]), recorded["resnet_out"], 1e-5)
    close(seen.mel[:, ::52], recorded["upsample/mels_every_52"], 1e-5)
    close(seen.aux, recorded["upsample/aux_every_200"], 1e-5)
    padded = tiny.upsample(F.pad(recorded["mel"], (2, 2)))
    close(padded.mel[:, ::52], recorded["upsample_padded/mels_every_52"], 1e-5)
    close(padded.aux, recorded["upsample_padded/aux_every_200"], 1e-5)


@pytest.mark.parametrize("kind", ["sampled", "greedy"])
def test_recorded_posteriors(tiny, recorded, kind):
    labels = recorded[f"{kind}/labels"].long()
    folds = fold(recorded["mel"].size(2) * 200, RECORDED[kind])
    assert (len(folds.starts), folds.steps) == tuple(labels.shape)
    frames = frames_of(tiny, F.pad(recorded["mel"][0], (2, 2)))
    loop = TorchLoop(Weights.of(tiny), len(labels))
    for step in range(8):
        posterior = loop.step(frames, torch.tensor(folds.starts)).softmax(dim=1)
        close(posterior, recorded[f"{kind}/posterior_first8"][step], 1e-5)
        loop.x = label_to_float(labels[:, step], 512).unsqueeze(1)


@pytest.mark.parametrize("kind", RECORDED)
def test_recorded_waveform_from_labels(tiny, recorded, kind):
    close(finish(recorded[f"{kind}/labels"].long(), tiny, 4600, RECORDED[kind]), recorded[f"{kind}/wav"], 2e-5)


@pytest.mark.parametrize("kernel", ["torch", "fp32"])
def test_recorded_greedy_generation_end_to_end(tiny, recorded, kernel):
    if kernel == "fp32" and best_kernel() == "torch":
        pytest.skip("no C compiler here")
    how = replace(RECORDED["greedy"], kernel=kernel)
    wav = generate(tiny, recorded["mel"][0] * 4, seed=5, how=how)
    np.testing.assert_allclose(wav, recorded["greedy/wav"], atol=2e-5)


def test_recorded_training_step(data_dir, recorded):
    model = load(data_dir / "wavernn_tiny.pt").train()
    logits = model(recorded["forward/x"], recorded["forward/mels"])
    loss = F.cross_entropy(logits.transpose(1, 2), recorded["train/y"].long())
    loss.backward()
    assert loss.item() == pytest.approx(float(recorded["train/loss"]), rel=1e-4)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    expected = {n.removeprefix("train/grad/"): v for n, v in recorded.items() if n.startswith("train/grad/")}
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        close(gradients[name], gradient, 1e-4 * float(gradient.abs().max()))
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, recorded[f"train/buffer/{name}"], atol=1e-5, rtol=1e-4)


def test_recorded_mixture_loss(dsp):
    assert float(mixture_loss(dsp["mol/logits"], dsp["mol/y"])) == pytest.approx(float(dsp["mol/loss"]), abs=1e-5)


@pytest.mark.parametrize("k", range(8))
def test_recorded_folding(dsp, k):
    total, target, overlap = (int(n) for n in dsp[f"fold/{k}/args"])
    x = F.pad((torch.arange(2 * total) + 1.0).view(total, 2), (0, 0, 0, 100))
    chunks = torch.stack([x[s : s + target + 2 * overlap] for s in fold_starts(total, target, overlap)])
    assert torch.equal(chunks, dsp[f"fold/{k}/out"])
    close(crossfade(dsp[f"unfold/{k}/in"], target, overlap, published=True), dsp[f"unfold/{k}/out"], 1e-9)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 500), st.integers(0, 120))
def test_folds_cover_everything_and_join_without_a_trace(total, target, overlap):
    starts = fold_starts(total, target, overlap)
    length = target + 2 * overlap
    assert starts[0] == 0 and starts[-1] + length >= total
    assert len(starts) == 1 or starts[-2] + length < total  # no chunk is superfluous
    assert all(b - a == target + overlap for a, b in zip(starts, starts[1:], strict=False))
    power = crossfade(torch.ones(len(starts), length, dtype=torch.float64), target, overlap)
    assert len(power) >= total
    assert power.min() > 1 - 1e-9  # equal chunks add to no less than themselves, unlike the published dip
    assert power.max() < math.sqrt(2) + 1e-9
    # each sample comes from the chunks that hold it, at its own place
    ramp = torch.arange(len(power), dtype=torch.float64) + 1
    chunks = torch.stack([ramp[s : s + length] for s in starts])
    torch.testing.assert_close(crossfade(chunks, target, overlap), power * ramp)


@pytest.mark.parametrize("config, n_mels", [(None, 80), (ODD, 13)])
def test_free_running_equals_teacher_forcing(tiny, config, n_mels):
    """The loop, with its folded input layer and mels mixed from frames, is `forward` fed with the same samples."""
    torch.manual_seed(3)
    model = tiny if config is None else WaveRNN(config, n_mels).eval().requires_grad_(False)
    levels, hop = 2**model.config.bits, math.prod(model.config.upsample)
    mel = torch.randn(n_mels, 5 + 2 * model.config.pad)
    frames = frames_of(model, mel)
    labels = samples_of(model, frames, Folds([0], 5 * hop), seed=1, greedy=True)
    x = label_to_float(F.pad(labels, (1, 0))[:, :-1], levels)
    x[:, 0] = 0  # nothing comes before the first sample
    logits = model(x, mel[None])
    close(stepped_logits(model, frames, 0, x[0]), logits[0], 1e-5)
    assert torch.equal(logits.argmax(dim=2).short(), labels)


@pytest.mark.parametrize("factors, pad", [((5, 5, 8), 2), ((3, 4), 1), ((2, 1, 3), 3), ((6,), 1), ((1, 4), 2)])
def test_mels_mixed_from_frames_are_the_upsampled_ones(factors, pad):
    config = WaveRNNConfig(
        rnn_size=4, fc_size=4, pad=pad, upsample=factors, compute_size=4, res_out_size=4, res_blocks=1
    )
    torch.manual_seed(2)
    model = WaveRNN(config, 5).requires_grad_(False)
    for layer in model.upsample.up_layers[1::2]:
        torch.nn.init.normal_(layer.weight)
    mel, weights = torch.randn(5, 6 + 2 * pad), Weights.of(model)
    rows = weights.frames(mel, torch.zeros(4, 6)).mel  # (6 + 2 * half_kernel, 4H)
    around = rows.unfold(0, 2 * weights.half_kernel + 1, 1)  # (6, 4H, 2 * half_kernel + 1)
    mixed = torch.einsum("pk,fhk->fph", weights.upsample_kernel, around).flatten(0, 1)
    expected = model.upsample(mel[None]).mel[0] @ weights.mel_in.t()
    torch.testing.assert_close(mixed, expected, atol=1e-4, rtol=1e-4)


def test_a_fold_hears_its_own_stretch(tiny):
    """Fold n of several is what that stretch gives alone."""
    frames = frames_of(tiny, torch.randn(80, 9))
    both = samples_of(tiny, frames, Folds([0, 350], 500), seed=4, greedy=True)
    for n, start in enumerate((0, 350)):
        assert torch.equal(both[n], samples_of(tiny, frames, Folds([start], 500), 9, greedy=True)[0])


def test_past_the_end_folds_hear_zeros(tiny, monkeypatch):
    mel, x = torch.randn(80, 6), torch.rand(400)
    heard = tiny.upsample(mel[None])  # of two frames
    zeros = UpsampledConditioning(F.pad(heard.mel[:, 200:], (0, 0, 0, 200)), F.pad(heard.aux[:, 1:], (0, 0, 0, 1)))
    monkeypatch.setattr(type(tiny.upsample), "forward", lambda *_: zeros)
    close(stepped_logits(tiny, frames_of(tiny, mel), 200, x), tiny(x[None], mel[None])[0], 1e-5)


def test_seed_law_and_progress(tiny):
    frames, seen = frames_of(tiny, torch.randn(80, 6)), []

    def run(seed):
        return samples_of(tiny, frames, Folds([0, 100], 400), seed, progress=lambda *a: seen.append(a))

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    assert seen[:2] == [(200, 400), (400, 400)]


def test_folds_and_seeds_draw_for_themselves():
    streams = [uniform_draws(*which, "raw")(5) for which in ((0, 0), (0, 1), (1, 0))]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(streams, 2))
    draw = uniform_draws(1, 0, "mol")
    np.testing.assert_array_equal(np.concatenate([draw(3), draw(4)]), uniform_draws(1, 0, "mol")(7))


def test_a_fold_draws_the_same_however_many_there_are(tiny):
    frames = frames_of(tiny, torch.randn(80, 6))
    one, two = (samples_of(tiny, frames, Folds(starts, 300), seed=6) for starts in ([0], [0, 100]))
    assert torch.equal(one[0], two[0])


def test_draws_follow_the_distribution():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    uniform = (torch.arange(10000)[:, None] + 0.5) / 10000
    counts = draw_label(logits.expand(10000, 4), uniform).bincount(minlength=4) / 10000
    close(counts, logits.softmax(dim=0), 2e-4)
    assert int(draw_label(logits[None], torch.tensor([[1 - 1e-9]]))) == 3


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("frames", [2, 3, 20, 21])
def test_short_mels(tiny, frames, published):
    how = Generation(target=600, overlap=100, published=published)
    wav = generate(tiny, torch.zeros(80, frames), seed=0, how=how)
    assert wav.shape == ((frames - 1) * 200,) and np.isfinite(wav).all()
    if published:
        assert abs(wav[-1]) < 1e-3  # faded out


@pytest.mark.parametrize("mode", ["raw", "mol"])
def test_both_modes_generate_and_learn_in_every_parameter(mode):
    config = WaveRNNConfig(
        rnn_size=12, fc_size=12, bits=6, pad=1, upsample=(2, 3), compute_size=8, res_out_size=8, res_blocks=1, mode=mode
    )
    model = WaveRNN(config, 10)
    logits = model(torch.rand(2, 24) * 2 - 1, torch.randn(2, 10, 6))
    assert logits.shape == (2, 24, config.outputs)
    target = torch.rand(2, 24) * 2 - 1
    if mode == "mol":
        mixture_loss(logits, target).backward()
    else:
        F.cross_entropy(logits.transpose(1, 2), (target.abs() * 60).long()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    wav = generate(model.eval(), torch.randn(10, 7), seed=1, how=Generation(target=10, overlap=4))
    assert wav.shape == (36,) and np.isfinite(wav).all()


@pytest.mark.parametrize("change", [{"res_out_size": 10}, {"bits": 1}, {"pad": 0}, {"preemphasis": 1.0}])
def test_refuses_nonsense(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        WaveRNNConfig(**change)
