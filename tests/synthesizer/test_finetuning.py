"""Fine-tuning on one voice: others are replayed beside it, parts stay as they are, and what is drawn picks the best."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from synthesizer.config import DataConfig, EmotionConfig, LossConfig, ParallelConfig, RunConfig, SynthesizerConfig
from synthesizer.training.losses import ranked_probability_score
from synthesizer.training.parallel import ParallelTask
from tests.support.synthesizer_set import SPEAKER_SIZE, VOICE, hear, make_set
from utils.data.manifest import read_manifest
from utils.errors import CloningError
from utils.training.loop import train
from utils.training.task import TrainingConfig

CONFIG = RunConfig(
    model=SynthesizerConfig("parallel", SPEAKER_SIZE, parallel=ParallelConfig(**VOICE)),
    data=DataConfig(batch_size=4, min_frames=1, embedding="other", window=20),
    training=TrainingConfig(steps=2, workers=0, validate_every=2, frozen=("embedding", "encoder")),
    score="speech",
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The set of the voice, and that of the others."""
    return [str(make_set(tmp_path_factory.mktemp(name))) for name in ("own", "others")]


def replaying(sets, **changes) -> RunConfig:
    return replace(CONFIG, data=replace(CONFIG.data, replay=sets[1]), **changes)


def drawing(task: ParallelTask) -> dict:
    """A batch of which mels are drawn."""
    task.progress = 0.9
    return task.batch(1)


def test_every_other_batch_is_of_the_replayed_set(sets):
    task = ParallelTask(read_manifest(sets[0]), replaying(sets), embed=hear)
    replay = task.sets["replay"]
    assert str(replay.manifest.root) == sets[1]
    for step in range(1, 7):
        source = replay if step % 2 == 0 else task.train
        chosen = source.choose((step + 1) // 2)  # every utterance of each set has its turn
        assert task.names(step) == [u.id for u in chosen]
        expected = torch.stack([torch.from_numpy(source.tokens(u)[:5]) for u in chosen])
        assert torch.equal(task.batch(step)["tokens"][:, :5], expected)


def test_a_replayed_set_has_the_emotions_of_the_model(sets, tmp_path):
    names = ("neutral", "happy")
    root = make_set(tmp_path / "set", 24, emotions=names)
    emotions = EmotionConfig(names, size=8, channels=8, blocks=1)
    config = replace(CONFIG, model=replace(CONFIG.model, emotion=emotions), data=replace(CONFIG.data, replay=str(root)))
    task = ParallelTask(read_manifest(root), config, embed=hear)
    assert all("emotion" in task.batch(step) for step in (1, 2))


def test_a_replayed_set_of_another_kind_is_named(sets, tmp_path):
    other = make_set(tmp_path / "set")
    path = other / "manifest.jsonl"
    header, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(header), "encoder": "0123"}), *rest]) + "\n")
    config = replace(CONFIG, data=replace(CONFIG.data, replay=str(other)))
    with pytest.raises(CloningError, match="data.replay: .* preprocessed with another encoder .*0123.*same settings"):
        ParallelTask(read_manifest(sets[0]), config, embed=hear)
    with pytest.raises(ValueError, match="data.replay are for the parallel architecture"):
        replace(replaying(sets), model=SynthesizerConfig("tacotron", SPEAKER_SIZE))


def test_frozen_parts_stay_and_the_rest_learns(sets, tmp_path):
    task = ParallelTask(read_manifest(sets[0]), replaying(sets), embed=hear)
    before = {name: value.clone() for name, value in task.model.named_parameters()}
    train(task, task.config.training, tmp_path)
    after = dict(task.model.named_parameters())
    kept = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.split(".")[0] in ("embedding", "encoder")}
    assert frozen <= kept and not any(name.startswith(("flow", "decoder")) for name in kept)


def test_the_score_has_the_same_terms_whatever_is_learned(sets):
    weights = LossConfig(duration=3.0, prosody=0.1, mean=7.0, flow=0.2, frame_classifier=0.0, voice_statistics=4.0)
    smooth = replace(CONFIG.model, parallel=ParallelConfig(**{**VOICE, "decoder": "l1"}))
    plain = replace(CONFIG, score="losses")
    results = []
    for config in (plain, replace(plain, loss=weights), replace(plain, model=smooth)):
        task = ParallelTask(read_manifest(sets[0]), config)
        task.model.eval()
        with torch.inference_mode():
            result = task.validate(task.modules)
        assert result.score == pytest.approx(sum(result.metrics[name] for name in ("duration", "prosody", "mel")))
        results.append(result)
    first, weighted, without_flow = results
    assert first.score == weighted.score and first.metrics == weighted.metrics
    assert without_flow.metrics["mel"] == pytest.approx(without_flow.metrics["mean"])


def test_a_mel_score_is_lowest_for_draws_of_the_true_distribution():
    torch.manual_seed(0)
    target, mask = torch.randn(4, 2000, 8), torch.ones(4, 2000, 1, dtype=torch.bool)
    draws = {width: [width * torch.randn_like(target) for _ in range(2)] for width in (0.5, 1.0, 1.5)}
    scores = {width: float(ranked_probability_score(pair, target, mask)) for width, pair in draws.items()}
    mean = float(ranked_probability_score([torch.zeros_like(target)], target, mask))
    assert mean == pytest.approx(math.sqrt(2 / math.pi), abs=0.02)  # the mean absolute value of a normal variable
    assert scores[1.0] == pytest.approx(1 / math.sqrt(math.pi), abs=0.02)  # twice that less once
    assert scores[1.0] == min(*scores.values(), mean)
    mask[2:] = False
    worse = target.clone()
    worse[2:] += 100
    assert float(ranked_probability_score([worse], target, mask)) == 0


def test_what_is_drawn_gives_the_score(sets):
    with pytest.raises(CloningError, match='score "speech" need a speaker encoder'):
        ParallelTask(read_manifest(sets[0]), CONFIG)
    without = replace(
        CONFIG, model=replace(CONFIG.model, parallel=ParallelConfig(**{**VOICE, "voice_statistics": False}))
    )
    with pytest.raises(CloningError, match="need a flow and a frame classifier"):
        ParallelTask(read_manifest(sets[0]), without, embed=hear)
    task = ParallelTask(read_manifest(sets[0]), CONFIG, embed=hear)
    task.model.eval()
    with torch.inference_mode():
        found = task.validate(task.modules)
    parts = ("duration", "prosody", "speaker_distance", "phone_error")
    assert found.score == pytest.approx(sum(found.metrics[name] for name in parts))
    assert found.metrics["speaker_distance"] > 0 and 0 < found.metrics["phone_error"] <= 1
    assert "draw" not in task.batch(1)  # only scored by it, not learned from
    sharpened = replace(CONFIG, score="losses", loss=LossConfig(phone_classification=1.0))
    assert sharpened.scores_speech and not replace(CONFIG, score="losses").scores_speech
    task = ParallelTask(read_manifest(sets[0]), sharpened, embed=hear)  # not learned from, and measured all the same
    assert task.embed is hear and "speaker" not in task.losses(task.modules, drawing(task), "synthesizer", 1)
