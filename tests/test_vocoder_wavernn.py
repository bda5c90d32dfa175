"""WaveRNN: the recorded outputs, folding, free running equal to teacher forcing, seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from utils.checkpoint import load_into, load_weights
from utils.errors import CloningError
from vocoder.config import WaveRNNConfig
from vocoder.fold import crossfade, fold_starts
from vocoder.generate import Folds, Generation, Stepper, Weights, draw_label, finish, fold, generate, generate_samples
from vocoder.quantize import label_to_float
from vocoder.wavernn import Conditioning, WaveRNN, config_of, mixture_loss, published_state

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
    model = WaveRNN(*config_of(checkpoint.state))
    load_into(model, checkpoint, published_state(checkpoint.state))
    return model.eval()


@pytest.fixture(scope="module")
def tiny(data_dir):
    return load(data_dir / "wavernn_tiny.pt").requires_grad_(False)


def close(a, b, tolerance):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


@pytest.mark.parametrize("layout", ["", "_legacy", "_bare"])
def test_published_layouts_load(data_dir, recorded, layout):
    model = load(data_dir / f"wavernn_tiny{layout}.pt")
    with torch.no_grad():
        close(model(recorded["forward/x"], recorded["forward/mels"]), recorded["forward/logits"], 1e-4)


def test_names_and_shapes_are_the_published_ones(data_dir):
    import json

    listed = json.loads((data_dir / "state_dicts.json").read_text(encoding="utf-8"))["vocoder"]["model_state"]
    own = {name: list(tensor.shape) for name, tensor in WaveRNN(WaveRNNConfig(), 80).state_dict().items()}
    assert {name: shape for name, shape, _ in listed if name != "step"} == own


def test_not_a_wavernn_is_one_line():
    with pytest.raises(CloningError, match="published layout"):
        config_of({"upsample.resnet.conv_in.weight": torch.zeros(4, 80, 5)})


def test_recorded_conditioning(tiny, recorded):
    seen = tiny.upsample(recorded["mel"])
    close(tiny.upsample.resnet(recorded["mel"]), recorded["resnet_out"], 1e-5)
    close(seen.mel, recorded["upsample/mels"], 1e-5)
    close(seen.aux.repeat_interleave(seen.hop_length, dim=1), recorded["upsample/aux"], 1e-5)
    padded = tiny.upsample(F.pad(recorded["mel"], (2, 2)))
    close(padded.mel, recorded["upsample_padded/mels"], 1e-5)
    close(padded.aux, recorded["upsample_padded/aux_every_200"], 1e-5)


@pytest.mark.parametrize("kind", ["sampled", "greedy"])
def test_recorded_posteriors(tiny, recorded, kind):
    labels = recorded[f"{kind}/labels"].long()
    conditioning = tiny.upsample(F.pad(recorded["mel"], (2, 2)))
    folds = fold(conditioning.mel.size(1), RECORDED[kind])
    assert (len(folds.starts), folds.steps) == tuple(labels.shape)
    stepper, x = Stepper(conditioning, Weights.of(tiny), folds), torch.zeros(len(labels), 1)
    for step in range(20):
        close(stepper.step(x).softmax(dim=1), recorded[f"{kind}/posterior_first20"][step], 1e-5)
        x = label_to_float(labels[:, step], 512).unsqueeze(1)


@pytest.mark.parametrize("kind", RECORDED)
def test_recorded_waveform_from_labels(tiny, recorded, kind):
    close(finish(recorded[f"{kind}/labels"].long(), tiny, 4600, RECORDED[kind]), recorded[f"{kind}/wav"], 2e-5)


def test_recorded_greedy_generation_end_to_end(tiny, recorded):
    wav = generate(tiny, recorded["mel"][0] * 4, seed=5, how=RECORDED["greedy"])
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
    """The loop with its folded input layer computes what `forward` does when it is fed the same samples."""
    torch.manual_seed(3)
    model = tiny if config is None else WaveRNN(config, n_mels).eval().requires_grad_(False)
    levels = 2**model.config.bits
    mel = torch.randn(1, n_mels, 5 + 2 * model.config.pad)
    conditioning = model.upsample(mel)
    folds = Folds([0], 5 * conditioning.hop_length)
    labels = generate_samples(conditioning, Weights.of(model), folds, seed=1, greedy=True)
    x = label_to_float(F.pad(labels, (1, 0))[:, :-1], levels)
    x[:, 0] = 0  # nothing comes before the first sample
    logits = model(x, mel)
    stepper = Stepper(conditioning, Weights.of(model), folds)
    stepped = torch.stack([stepper.step(x[:, t : t + 1]) for t in range(labels.size(1))], dim=1)
    close(stepped, logits, 1e-5)
    assert torch.equal(logits.argmax(dim=2).short(), labels)


def test_a_fold_hears_its_own_stretch(tiny):
    """Fold n of several is what that stretch gives alone, for the same draws."""
    conditioning = tiny.upsample(torch.randn(1, 80, 9))
    weights = Weights.of(tiny)
    both = generate_samples(conditioning, weights, Folds([0, 350], 500), seed=4, greedy=True)
    for n, start in enumerate((0, 350)):
        assert torch.equal(both[n], generate_samples(conditioning, weights, Folds([start], 500), 9, greedy=True)[0])


def test_past_the_end_folds_hear_zeros(tiny):
    conditioning, weights = tiny.upsample(torch.randn(1, 80, 6)), Weights.of(tiny)
    padded = Conditioning(F.pad(conditioning.mel, (0, 0, 0, 200)), F.pad(conditioning.aux, (0, 0, 0, 1)))
    x, folds = torch.rand(1, 400), Folds([200], 400)
    ours, theirs = (Stepper(c, weights, folds) for c in (conditioning, padded))
    for step in range(400):
        close(ours.step(x[:, step : step + 1]), theirs.step(x[:, step : step + 1]), 1e-6)


def test_seed_law_and_progress(tiny):
    conditioning, weights = tiny.upsample(torch.randn(1, 80, 6)), Weights.of(tiny)
    seen = []

    def run(seed):
        return generate_samples(conditioning, weights, Folds([0, 100], 400), seed, progress=lambda *a: seen.append(a))

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    assert not torch.equal(*run(1))  # the folds draw for themselves
    assert seen[:2] == [(200, 400), (400, 400)]


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
