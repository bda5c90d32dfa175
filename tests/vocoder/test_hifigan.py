"""HiFi-GAN: rates against the hop, shapes, weight norm, discriminators."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from utils.adversarial import adversarial_loss, discriminator_loss, feature_loss
from utils.config import load_config
from utils.errors import CloningError
from vocoder.config import DiscriminatorConfig, HifiGanConfig, RunConfig, VocoderConfig
from vocoder.model import build_network
from vocoder.models.discriminators import Discriminators
from vocoder.models.hifigan import HifiGan, remove_weight_norm

USUAL = HifiGanConfig(channels=32, resblock_kernels=(3, 5), resblock_dilations=(1, 2))
ODD = HifiGanConfig(
    channels=24, upsample_rates=(3, 5), upsample_kernels=(3, 9), resblock_kernels=(3,), resblock_dilations=(1,)
)
DISCRIMINATORS = DiscriminatorConfig(channels=4, periods=(2, 3), scales=2, resolutions=(128,), multi_scale=True)


@pytest.mark.parametrize("config, n_mels", [(USUAL, 80), (ODD, 13)])
@pytest.mark.parametrize("frames", [2, 7])
def test_shape_is_whole_hops(config, n_mels, frames):
    model = HifiGan(config, n_mels)
    out = model(torch.randn(2, n_mels, frames)).wav
    assert out.shape == (2, (frames - 1) * model.hop_length)
    assert out.abs().max() <= 1


def test_removing_weight_norm_changes_nothing_but_the_parameters():
    model, mel = HifiGan(USUAL, 80).eval(), torch.randn(1, 80, 6)
    before, size = model(mel).wav, len(model.state_dict())
    remove_weight_norm(model)
    torch.testing.assert_close(model(mel).wav, before, atol=1e-6, rtol=1e-5)
    assert len(model.state_dict()) < size and not any("parametrizations" in name for name in model.state_dict())


def test_centred_frames_reach_both_sides_equally():
    """Frame f is centered on sample f * hop, as in the mel."""
    torch.manual_seed(0)
    config = dataclasses.replace(USUAL, resblock_kernels=(3,), resblock_dilations=(1,))
    # in float64, so that the faint edges of what a frame reaches are not lost in the rounding of the rest
    model, mel = HifiGan(config, 80).eval().double(), torch.zeros(1, 80, 31, dtype=torch.float64)
    model.conv_in.bias.data.normal_()
    changed = mel.clone()
    changed[:, :, 15] = 50
    touched = (model(mel).wav - model(changed).wav)[0].abs().gt(0).nonzero()
    middle = (touched.min() + touched.max()).item() / 2
    assert abs(middle - 15 * 200) < 10


def test_gradient_reaches_every_parameter_of_generator_and_discriminators():
    model, discriminators = HifiGan(ODD, 13), Discriminators(DISCRIMINATORS)
    out = model(torch.randn(2, 13, 60)).wav
    made, real = discriminators(out), discriminators(torch.rand_like(out) - 0.5)
    for objective in ("hinge", "least_squares"):
        model.zero_grad(), discriminators.zero_grad()
        features = feature_loss(real.features, made.features)
        (adversarial_loss(made.scores, objective) + features).backward(retain_graph=True)
        assert all(p.grad.abs().max() > 0 for p in model.parameters())
        discriminators.zero_grad()
        discriminator_loss(real.scores, made.scores, objective).backward(retain_graph=True)
        # inside the hinge's margin a bias pulls real and made alike: its gradient may cancel there
        learning = [p for n, p in discriminators.named_parameters() if objective != "hinge" or not n.endswith("bias")]
        assert all(p.grad.abs().max() > 0 for p in learning)


@pytest.mark.parametrize("objective", ["hinge", "least_squares"])
def test_generator_and_discriminator_losses_oppose(objective):
    one = [torch.ones(2, 5)]
    other = [-x for x in one]
    right, wrong = discriminator_loss(one, other, objective), discriminator_loss(other, one, objective)
    assert right < wrong
    assert adversarial_loss(one, objective) == 0 < adversarial_loss(other, objective)
    assert feature_loss([one], [one]) == 0


@pytest.mark.parametrize("length", [200, 201, 1999])
def test_discriminators_take_any_length_and_see_each_item_alone(length):
    discriminators, wav = Discriminators(DISCRIMINATORS).eval(), torch.randn(3, length)
    together, alone = discriminators(wav), discriminators(wav[1:2])
    assert len(together.scores) == len(together.features) == 5
    for ours, theirs in zip(together.scores, alone.scores, strict=True):
        torch.testing.assert_close(ours[1:2], theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_discriminators_learn_to_tell_two_sounds_apart():
    torch.manual_seed(0)
    discriminators = Discriminators(DiscriminatorConfig(channels=4, periods=(2, 3), resolutions=(128,)))
    optimizer = torch.optim.AdamW(discriminators.parameters(), 5e-3)
    t = torch.arange(400) / 16000
    for _ in range(20):
        real = torch.sin(2 * torch.pi * 200 * t + 6 * torch.rand(4, 1))
        judged_real, judged_made = discriminators(real), discriminators(real.sign() * 0.7)
        loss = discriminator_loss(judged_real.scores, judged_made.scores, "hinge")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.8  # 2 is chance


@pytest.mark.parametrize("preset, millions", [("hifigan_v1", 13.14), ("hifigan_v2", 0.88), ("hifigan_22k", 13.96)])
def test_presets_have_the_published_sizes(preset, millions):
    """13.92 M and 0.92 M for rates 8, 8, 2, 2 (arXiv 2010.05646, table 1); ours differ by the kernels of the rates."""
    run = load_config(RunConfig, "vocoder", preset)
    model = build_network(run.model)
    remove_weight_norm(model)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert model.hop_length == run.model.mel.hop_length


def test_published_discriminators_have_the_published_size():
    discriminators = Discriminators(load_config(RunConfig, "vocoder", "hifigan_v2").discriminator)
    assert sum(p.numel() for p in discriminators.parameters()) / 1e6 == pytest.approx(70.7, abs=0.1)


def test_rates_must_make_the_hop():
    with pytest.raises(ValueError, match=r"by \[8, 8, 4, 2\] makes 512 samples a frame, but the .* hop is 200"):
        VocoderConfig(
            architecture="hifigan", hifigan=HifiGanConfig(upsample_rates=(8, 8, 4, 2), upsample_kernels=(16, 16, 8, 4))
        )
    with pytest.raises(CloningError, match="makes 100 samples"):
        settings = ["model.hifigan.upsample_rates=[5,5,4]", "model.hifigan.upsample_kernels=[11,11,8]"]
        load_config(RunConfig, "vocoder", "hifigan_v1", settings)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"upsample_kernels": (11, 11, 8)}, "must pair up"),
        ({"upsample_kernels": (10, 11, 8, 4)}, "plus an even number"),
        ({"channels": 100}, "must halve 4 times"),
        ({"resblock_kernels": (4,)}, "must be odd"),
    ],
)
def test_refuses_nonsense(change, message):
    with pytest.raises(ValueError, match=message):
        HifiGanConfig(**change)


def test_refuses_no_discriminators():
    with pytest.raises(ValueError, match="no discriminator"):
        DiscriminatorConfig(start=0, multi_period=False, multi_resolution=False)
