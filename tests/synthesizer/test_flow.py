"""The flow in place of the postnet of Tacotron and the Transformer: invariants."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from synthesizer.config import FlowConfig, RunConfig, SamplingConfig
from synthesizer.models.base import GenerationSettings
from synthesizer.models.flow import FlowConditioning, FlowPostnet
from synthesizer.models.layers import resample
from synthesizer.text.symbols import SymbolTable
from synthesizer.train import build_task
from synthesizer.training.losses import flow_loss, local_mean
from synthesizer.training.task import take_flow
from tests.support.synthesizer_set import SPEAKER_SIZE, make_set
from tests.support.synthesizer_set import small as small_parallel
from utils.audio.mel import MelConfig
from utils.config import from_dict, load_config
from utils.data.manifest import read_manifest
from utils.errors import CloningError
from utils.weights.checkpoint import Header, load_weights, save_weights

MELS, CONTEXT = 20, 12


def small(**changes) -> FlowPostnet:
    torch.manual_seed(0)
    config = FlowConfig(**{"blocks": 1, "channels": 16, "kernel": 5, **changes})
    flow = FlowPostnet(config, SamplingConfig(), MELS, CONTEXT, SPEAKER_SIZE)
    torch.nn.init.normal_(flow.context_projection.weight)  # zero before training: the text would do nothing
    return flow


def inputs(frames: int = 30) -> tuple[torch.Tensor, FlowConditioning]:
    torch.manual_seed(1)
    voices = torch.nn.functional.normalize(torch.randn(3, SPEAKER_SIZE))
    return torch.randn(3, MELS, frames), FlowConditioning(torch.randn(3, frames, CONTEXT), voices, [7, 8, 9])


def test_what_is_drawn_depends_on_the_items_mel_text_voice_and_seed_alone():
    flow, (smooth, spoken), lengths = small().eval(), inputs(), torch.tensor([30, 17, 24])
    with torch.inference_mode():
        drawn = flow.draw(smooth, spoken, lengths)
        alone = flow.draw(smooth[1:2, :, :17], spoken.item(1, 17), lengths[1:2])
        torch.testing.assert_close(drawn[1:2, :, :17], alone)
        assert torch.equal(drawn, flow.draw(smooth, spoken, lengths))
        assert not torch.allclose(drawn[1], flow.draw(smooth, spoken._replace(seeds=[7, 9, 9]), lengths)[1])
        for name in ("context", "speaker"):
            other = spoken._replace(**{name: getattr(spoken, name).flip(0)})
            assert not torch.allclose(drawn[0], flow.draw(smooth, other, lengths)[0])


def test_padding_and_other_items_do_not_change_what_is_learned():
    flow, (smooth, spoken), target = small(), inputs(150), torch.randn(3, MELS, 150)
    lengths = torch.tensor([150, 17, 140])  # longer, shorter and about as long as a window
    both = flow(smooth, spoken, target, lengths)
    assert both.velocity.shape[1] == FlowPostnet.WINDOW and both.mask.sum(dim=1).flatten().tolist()[1] == 17
    for row in range(3):
        one, size = slice(row, row + 1), int(lengths[row])
        other, goal, said = (torch.full_like(x[one], 3.0) for x in (smooth, target, spoken.context))
        other[..., :size], goal[..., :size] = smooth[one, :, :size], target[one, :, :size]
        said[:, :size] = spoken.context[one, :size]
        alone = flow(other, spoken.item(row, 150)._replace(context=said), goal, lengths[one])
        for name in ("velocity", "target"):
            found, wanted = getattr(alone, name) * both.mask[one], getattr(both, name)[one] * both.mask[one]
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_what_made_the_smooth_mel_learns_nothing_of_the_flow():
    flow, (smooth, spoken) = small(), inputs()
    smooth.requires_grad_()
    spoken.context.requires_grad_()
    output = flow(smooth, spoken, torch.randn(3, MELS, 30), torch.tensor([30, 17, 24]))
    flow_loss(output, local_mean).backward()
    assert smooth.grad is None and spoken.context.grad is None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in flow.parameters())


def test_it_begins_as_the_flow_of_a_parallel_model_that_has_no_hidden_frames():
    parallel = small_parallel(channels=16)
    flow = FlowPostnet(FlowConfig(blocks=1, channels=16, kernel=5), SamplingConfig(), MELS, CONTEXT, SPEAKER_SIZE)
    take_flow(flow, parallel.state_dict())
    torch.manual_seed(2)
    x, mean, time, mask = torch.randn(2, 9, MELS), torch.randn(2, 9, MELS), torch.rand(2), torch.ones(2, 9, 1)
    voice = torch.nn.functional.normalize(torch.randn(2, SPEAKER_SIZE))
    theirs = parallel.flow.velocity(x, time, mean, torch.zeros(2, 9, 16), parallel.condition(voice).vector, mask)
    heard = flow.context_projection(torch.randn(2, 9, CONTEXT))
    torch.testing.assert_close(flow.velocity(x, time, mean, heard, flow._condition(voice), mask), theirs)
    frozen = {name for name, p in flow.named_parameters() if not p.requires_grad}
    assert frozen == {f"stack.blocks.0.{n}.{w}" for n in ("depthwise", "up", "down") for w in ("weight", "bias")}


@pytest.mark.parametrize("model", ["tacotron", "transformer"])
def test_a_run_begins_with_the_flow_it_is_given_and_is_stored_without_it(tmp_path, model):
    root = make_set(tmp_path / "set")
    sizes = [f"model.speaker_size={SPEAKER_SIZE}", "data.min_frames=1", "model.parallel.channels=16"]
    given = build_task(
        read_manifest(root),
        load_config(RunConfig, "synthesizer", "debug", [*sizes, "model.architecture=parallel"]),
    )
    base = tmp_path / "parallel.safetensors"
    save_weights(base, Header("synthesizer", {}, mel=given.mel), given.modules["synthesizer"].state_dict())
    settings = [*sizes, f"model.architecture={model}", f"flow_from={base}"]
    task = build_task(read_manifest(root), load_config(RunConfig, "synthesizer", "debug", settings))
    own = task.modules["synthesizer"].state_dict()
    flow = [name for name in own if name.startswith("flow.stack.")]
    assert flow and all(torch.equal(own[name], given.modules["synthesizer"].state_dict()[name]) for name in flow)
    out = tmp_path / "out.safetensors"
    save_weights(out, Header("synthesizer", {}, mel=task.mel), own, dtype="float16", base=load_weights(base))
    found = load_weights(out).state
    assert found.keys() == own.keys()  # nothing else of the base
    with pytest.raises(CloningError, match=r"flow_from: the flow of these weights does not fit model.flow: .*size"):
        build_task(
            read_manifest(root),
            load_config(RunConfig, "synthesizer", "debug", [*settings, "model.flow.channels=24"]),
        )
    with pytest.raises(CloningError, match=r"flow_from: the flow of these weights does not fit model.flow: .*Missing"):
        no_flow = tmp_path / "no_flow.safetensors"
        save_weights(no_flow, Header("synthesizer", {}), {"x": torch.zeros(1)})
        build_task(
            read_manifest(root),
            load_config(RunConfig, "synthesizer", "debug", [*settings, f"flow_from={no_flow}"]),
        )
    with pytest.raises(
        CloningError, match=r"flow_from is .*, but only a tacotron or transformer with model.flow.blocks"
    ):
        load_config(RunConfig, "synthesizer", "debug", [*settings, "model.flow.blocks=0"])
    with pytest.raises(CloningError, match="no such checkpoint"):
        build_task(
            read_manifest(root),
            load_config(RunConfig, "synthesizer", "debug", [*settings, "flow_from=nowhere"]),
        )


@pytest.mark.parametrize("blocks", [1, 0])
@pytest.mark.parametrize("model", ["tacotron", "transformer"])
def test_speech_lasts_as_the_checkpoint_says_and_is_drawn_at_that_rate(tmp_path, model, blocks):
    settings = [f"model.speaker_size={SPEAKER_SIZE}", "data.min_frames=1", f"model.architecture={model}"]
    settings.append(f"model.flow.blocks={blocks}")
    task = build_task(
        read_manifest(make_set(tmp_path / "set")),
        load_config(RunConfig, "synthesizer", "debug", settings),
    )
    network = task.modules["synthesizer"].eval()
    with torch.inference_mode():
        spoken = task._input(network, task.held_out.utterances[:2])
        usual = GenerationSettings(from_dict(MelConfig, task.mel), SymbolTable(task.extra["text"]["symbols"]))
        plain = network.generate(spoken, usual)
        slower = network.generate(spoken, replace(usual, duration_scale=1.25))
        twice = network.generate(spoken, replace(usual, duration_scale=1.25, rate=1.25))
    for a, b, c in zip(plain, slower, twice, strict=True):
        assert b.mel.shape[1] == len(b.alignment) == round(a.mel.shape[1] * 1.25)
        assert torch.equal(a.mel, c.mel)  # the rate is relative to that
        assert torch.equal(b.mel, resample(a.mel, 0.8)) == (not blocks)  # a flow draws anew what it has more time for
