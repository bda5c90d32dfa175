"""Training: real steps through the script, killed and resumed, and what it says when things do not fit."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import synthesizer_train
from synthesizer.config import WITH_POSTNET, LossConfig, RunConfig
from synthesizer.inference import Synthesizer
from synthesizer.speech import SpeechOptions
from synthesizer.train import build_task
from synthesizer.training import autoregressive as train_steps
from synthesizer.training.autoregressive import alignment_warnings
from synthesizer.training.losses import autoregressive_losses, local_mean
from synthesizer.training.task import duration_scale
from tests.support.synthesizer_set import MEL, SPEAKER_SIZE, make_set
from tests.support.synthesizer_training import learn_by_heart, whole_and_resumed
from utils.config import CONFIGS, load_config, to_dict
from utils.data.manifest import read_manifest
from utils.errors import CloningError
from utils.training.log import ruler_of
from utils.weights.checkpoint import load_weights

pytestmark = pytest.mark.slow

MODELS = ["tacotron", "non_attentive_tacotron", "non_attentive_transformer", "parallel"]
SETTINGS = [f"model.speaker_size={SPEAKER_SIZE}", "data.batch_size=3", "data.min_frames=1"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return make_set(tmp_path_factory.mktemp("set"))


def config(model: str, *settings: str) -> RunConfig:
    return load_config(RunConfig, "synthesizer", "debug", [*SETTINGS, f"model.architecture={model}", *settings])


def script(toy: Path, out: Path, model: str, *extra: str) -> int:
    settings = [f"--set={s}" for s in (*SETTINGS, f"model.architecture={model}")]
    return synthesizer_train.main(
        [str(toy), "--out", str(out), "--config", "debug", "--device", "cpu", *settings, *extra]
    )


@pytest.mark.parametrize("model", MODELS)
def test_killed_and_resumed_is_uninterrupted_bit_for_bit(toy, tmp_path, monkeypatch, model):
    task = build_task(read_manifest(toy), config(model)).__class__
    whole = whole_and_resumed(lambda out: script(toy, out, model), task, tmp_path, monkeypatch)
    rows = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {r["group"] for r in rows} == {"train", "validation"}
    voice = np.full(SPEAKER_SIZE, SPEAKER_SIZE**-0.5, np.float32)
    if MEL["n_mels"] == whole.mel["n_mels"]:
        best = Synthesizer.load(tmp_path / "whole" / "best.safetensors")
        assert best.synthesize(["See it."], voice, SpeechOptions(seed=1))[0].mel.shape[0] == MEL["n_mels"]
        assert best.encoder_fingerprint == "toy"


@pytest.mark.parametrize("model", [*MODELS, "transformer"])
def test_weights_of_losses_change_nothing_in_a_validation(toy, model):
    task = build_task(read_manifest(toy), config(model))
    network = task.modules["synthesizer"].eval()
    with torch.inference_mode():
        single = task.validate({"synthesizer": network})
        weights = {name: 2 * value for name, value in vars(task.config.loss).items() if isinstance(value, float)}
        weights |= {"attention_floor": 1.0, "sharpen_from": task.config.loss.sharpen_from}  # shares
        task.config = dataclasses.replace(task.config, loss=dataclasses.replace(task.config.loss, **weights))
        double = task.validate({"synthesizer": network})
    assert (double.score, double.metrics) == (single.score, single.metrics)


@pytest.mark.parametrize("model", [*MODELS, "transformer"])
def test_a_validation_depends_on_no_seed_and_what_it_depends_on_is_in_the_ruler(toy, model):
    modules = build_task(read_manifest(toy), config(model)).modules

    def validated(*settings: str) -> tuple[float, dict]:
        run = config(model, *settings)
        task = build_task(read_manifest(toy), run)
        task.modules["synthesizer"].load_state_dict(modules["synthesizer"].state_dict())
        with torch.inference_mode():
            found = task.validate({"synthesizer": task.modules["synthesizer"].eval()})
        return found.score, ruler_of(to_dict(run), task)

    settings = ("data.crop=12", "data.embedding_noise=0.5")
    plain = validated(*settings)
    assert validated("training.seed=1", *settings) == plain
    if model in WITH_POSTNET:
        score, ruler = validated("data.crop=0", *settings[1:])
        assert score != plain[0] and ruler != plain[1]


@pytest.mark.parametrize("model", ["tacotron", "transformer"])
def test_a_validation_is_as_long_as_the_recordings_whatever_their_transcripts_say(toy, monkeypatch, model):
    task = build_task(read_manifest(toy), config(model))
    network, most = task.modules["synthesizer"].eval(), []
    free_run = network.free_run
    monkeypatch.setattr(network, "free_run", lambda *args: most.append(args[3]) or free_run(*args))
    monkeypatch.setattr(train_steps, "frame_limit", lambda *_: 10**6)  # of a text as long as a book
    with torch.inference_mode():
        task.validate(task.modules)
    longest = max(u.frames for u in task.held_out.utterances)
    assert most and max(most) * network.reduction <= 3 * longest + network.reduction


@pytest.mark.pictures
def test_the_reduction_follows_its_schedule_into_the_checkpoint(toy, tmp_path):
    assert script(toy, tmp_path, "tacotron", "--steps", "5") == 0
    assert int(load_weights(tmp_path / "last.safetensors").state["decoder.r"]) == 2
    found = config("tacotron")
    assert [found.reduction_at(step) for step in (1, 4, 5, 10_000)] == [5, 5, 2, 2]


def test_with_a_budget_of_time_the_reduction_and_the_forced_alignment_follow_its_share(toy):
    task = build_task(read_manifest(toy), config("tacotron", "training.minutes=1"))
    model, forced = task.modules["synthesizer"], []
    forward = model.forward
    model.forward = lambda batch, **how: forced.append(how["forced_alignment"]) or forward(batch, **how)
    for step, position, reduction in ((1000, 1.0, 5), (1, 3.5, 5), (2, 7.0, 2)):
        task.position = position
        batch = task.batch(step)
        task.position = 8.0 if position == 3.5 else position  # made a little earlier than it is learned from
        task.begin_step(batch)
        task.losses(task.modules, batch, "synthesizer", step)
        assert batch["reduction"] == model.reduction == reduction
    assert forced == [True, False, False]


def test_tacotron_learns_one_batch_and_where_to_attend(toy):
    sizes = [f"model.tacotron.{name}=48" for name in ("embedding", "encoder", "decoder", "lstm", "prenet")]
    run = config("tacotron", "model.tacotron.dropout=0.0", "model.tacotron.zoneout=0.0", "model.flow.blocks=0", *sizes)
    task = build_task(read_manifest(toy), run)
    model = task.modules["synthesizer"].train()
    model.set_reduction(2)
    batch = task.train.whole(task.train.choose(1), None, 2)
    assert learn_by_heart(model, batch, 70, ("mel", "linear", "attention")) > 0.7


def test_masked_losses_do_not_see_padding(toy):
    task = build_task(read_manifest(toy), config("tacotron"))
    model = task.modules["synthesizer"].eval()
    model.set_reduction(2)
    batch = task.train.whole(task.train.choose(1), None, 2)
    longer = dict(batch)
    longer["mel"] = torch.nn.functional.pad(batch["mel"], (0, 20), value=-4.0)
    longer["targets"] = torch.nn.functional.pad(batch["targets"], (0, 10), value=-1)
    with torch.no_grad():
        one, two = (autoregressive_losses(model(b), b, LossConfig(), 2, 1, local_mean) for b in (batch, longer))
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=name)


def gradients_of_a_process(rank: int, world: int, toy: str, out: Path) -> None:
    """One process of several: the averaged gradients of its rows of each model's batch, written by the first."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=(out / "meet").as_uri(), rank=rank, world_size=world)
    for model in MODELS:
        task = build_task(read_manifest(toy), config(model, "data.batch_size=4"))
        module = task.modules["synthesizer"].train()
        wrapped = torch.nn.parallel.DistributedDataParallel(module)
        own = task.shard(task.batch(1), rank, world)
        task.begin_step(own)
        sum(task.losses({"synthesizer": wrapped}, own, "synthesizer", 1).values()).backward()
        if rank == 0:
            torch.save({name: p.grad for name, p in module.named_parameters()}, out / model)
    if rank == 0:
        (out / "world").write_text(str(dist.get_world_size()), encoding="utf-8")
    (out / f"ready {rank}").touch()
    deadline = time.monotonic() + 600
    while len(list(out.glob("ready *"))) < world and time.monotonic() < deadline:
        time.sleep(0.01)
    os._exit(0)  # gloo's threads may abort a process that is torn down while the other still talks


@pytest.fixture(scope="module")
def two_processes(toy, tmp_path_factory) -> Path:
    """Gradients of each model, found by two processes together."""
    out = tmp_path_factory.mktemp("gradients")
    torch.multiprocessing.spawn(gradients_of_a_process, (2, str(toy), out), nprocs=2)
    assert (out / "world").read_text(encoding="utf-8") == "2"
    return out


@pytest.mark.parametrize("model", MODELS)
def test_two_processes_equal_one(toy, two_processes, model):
    """With layer norm in Tacotron; batch norm would take its statistics from each process's own rows."""
    task = build_task(read_manifest(toy), config(model, "data.batch_size=4"))
    module = task.modules["synthesizer"].train()
    batch = task.batch(1)
    task.begin_step(batch)
    sum(task.losses({"synthesizer": module}, batch, "synthesizer", 1).values()).backward()
    found = torch.load(two_processes / model, weights_only=True)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.pictures
def test_fine_tuning_starts_from_given_weights(toy, tmp_path):
    assert script(toy, tmp_path / "a", "parallel") == 0
    assert script(toy, tmp_path / "b", "parallel", "--from", str(tmp_path / "a" / "last.safetensors"), "--steps=1",
                  "--set=training.learning_rate=1e-9") == 0  # fmt: skip
    a, b = (load_weights(tmp_path / name / "last.safetensors").state for name in "ab")
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], atol=1e-6, rtol=0)


def test_a_non_attentive_tacotron_begins_with_the_weights_of_a_tacotron(toy, tmp_path, capsys):
    assert script(toy, tmp_path / "a", "tacotron", "--steps=1") == 0
    weights = str(tmp_path / "a" / "last.safetensors")
    assert script(toy, tmp_path / "b", "non_attentive_tacotron", "--steps=1", "--from", weights) == 0
    assert script(toy, tmp_path / "c", "parallel", "--steps=1", "--from", weights) == 2
    assert "its architecture is tacotron" in capsys.readouterr().err


def test_warnings_say_in_words_what_is_wrong():
    assert alignment_warnings({"alignment_quality": 0.8, "alignment_quality_forced": 0.9}) == []
    assert "does not align yet" in alignment_warnings({"alignment_quality": 0.1, "alignment_quality_forced": 0.1})[0]
    assert "not yet on its own" in alignment_warnings({"alignment_quality": 0.1, "alignment_quality_forced": 0.9})[0]


def test_what_does_not_fit_is_one_line(toy, tmp_path, capsys):
    with pytest.raises(CloningError, match="set model.speaker_size to 6"):
        build_task(read_manifest(toy), config("parallel", "model.speaker_size=7"))
    with pytest.raises(CloningError, match="make the set with phone times"):
        build_task(read_manifest(make_set(tmp_path / "plain", durations=False)), config("parallel"))
    assert script(tmp_path / "nowhere", tmp_path / "out", "parallel") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_set_without_durations_trains_tacotron_by_the_diagonal(tmp_path):
    root = make_set(tmp_path / "plain", durations=False)
    task = build_task(read_manifest(root), config("tacotron"))
    batch = task.batch(1)
    task.begin_step(batch)
    losses = task.losses(task.modules, batch, "synthesizer", 1)
    assert 0 < float(losses["attention"].detach()) < 2


@pytest.mark.parametrize("preset", sorted(p.stem for p in (CONFIGS / "synthesizer").glob("*.toml")))
def test_presets_load(preset):
    load_config(RunConfig, "synthesizer", preset)


def test_settings_that_make_no_sense_are_refused():
    for setting in ("reduction=[[50, 10]]", "model.tacotron.norm=group", "data.batchsize=3", "model.parallel.kernel=4"):
        with pytest.raises(CloningError):
            config("tacotron", setting)


def test_the_duration_scale_weighs_speakers_alike():
    slow, fast = torch.tensor([200.0, 100.0]), torch.tensor([50.0, 100.0])
    assert duration_scale({"a": [slow]}) == pytest.approx(2)
    assert duration_scale({"a": [slow, slow, slow], "b": [fast]}) == pytest.approx(1)


def test_validation_takes_one_utterance_of_each_speaker_before_a_second(toy):
    task = build_task(read_manifest(toy), config("parallel", "data.hold_out=0"))
    of_set = task.held_out.utterances
    task.held_out.utterances = [*of_set, *(dataclasses.replace(u, id=f"{u.id}-{i}") for u in of_set[:1] for i in "abc")]
    chosen = [u for batch in task.validation_batches(3) for u in batch]
    assert len({u.speaker for u in chosen[:3]}) == 2 and len(chosen) == 3
    assert len({u.id for batch in task.validation_batches() for u in batch}) == 5


def test_older_names_of_settings_are_read_with_a_note(tmp_path, caplog):
    preset = tmp_path / "old.toml"
    preset.write_text(
        'led_steps = 3\n[model]\nmodel = "transformer"\n[model.transformer]\nreach = 7\n'
        "[loss]\nsaid = 0.4\nlistener = 0.2\nfeatures = 3.0\n"
        "[data]\nemotional = 2\nmarks_withheld = 0.1\nquestions = 4.0\n"
    )
    found = load_config(RunConfig, "synthesizer", preset, ["model.flow.blocks=0"])
    assert (found.forced_alignment_steps, found.model.architecture) == (3, "transformer")
    assert found.model.transformer.max_attention_step == 7
    loss, chosen = found.loss, found.data
    assert (loss.phone_classification, loss.frame_classifier, loss.feature_matching) == (0.4, 0.2, 3.0)
    assert (chosen.emotional_repeats, chosen.punctuation_dropout, chosen.question_weight) == (2, 0.1, 4.0)
    for note in (
        "led_steps is called forced_alignment_steps",
        "model is called architecture",
        "reach is called max_",
        "said is called phone_classification",
        "questions is called question_weight",
    ):
        assert note in caplog.text
    assert load_config(RunConfig, "synthesizer", "debug", ["model.model=parallel"]).model.architecture == "parallel"


@pytest.mark.pictures
def test_a_run_with_older_names_of_settings_goes_on(toy, tmp_path):
    assert script(toy, tmp_path, "transformer", "--steps", "2") == 0
    state = torch.load(tmp_path / "state.pt", weights_only=False)
    state["model"]["model"] = state["model"].pop("architecture")
    sizes = state["model"]["transformer"]
    sizes["reach"] = sizes.pop("max_attention_step")
    torch.save(state, tmp_path / "state.pt")
    assert script(toy, tmp_path, "transformer", "--steps", "3") == 0
    assert load_weights(tmp_path / "last.safetensors").step == 3
    sizes["reach"] += 1
    torch.save(state, tmp_path / "state.pt")
    assert script(toy, tmp_path, "transformer", "--steps", "4") == 2  # another network
