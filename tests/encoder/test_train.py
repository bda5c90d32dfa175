"""The scripts for real: train, stop, go on; two processes; preprocessing with bad files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import encoder_preprocess
import encoder_train
from encoder import teach
from encoder.config import AugmentConfig, DataConfig, EncoderConfig, LossConfig, PartialConfig, RunConfig
from encoder.data import ValidationCrops
from encoder.inference import SpeakerEncoder
from encoder.names import OWN
from encoder.teach import read_teacher_embeddings
from encoder.train import EncoderTask, apply_masks, build_task, ge2e_loss, measure
from tests.support.encoder_set import RATE, voice, write_set
from tests.support.launching import launch_two
from utils.audio.io import change_speed
from utils.config import load_config
from utils.data.manifest import Arrays, read_manifest
from utils.errors import CloningError
from utils.training.task import Task
from utils.weights.checkpoint import load_weights

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--config", "debug", "--device", "cpu", "--workers", "0"]


def settings(*names: str) -> list[str]:
    return [part for name in names for part in ("--set", name)]


def train(data: Path, out: Path, *more: str) -> int:
    return encoder_train.main([str(data), "--out", str(out), *SMALL, *more])


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_weights(path, "encoder").state


def rows(run: Path, group: str) -> list[dict]:
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["group"] == group]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("set")
    write_set(root, teacher=256)
    return root


@pytest.mark.parametrize(
    "more", [["--model", "lstm", *settings("model.lstm.hidden=16")], settings("training.ema_decay=0.9")]
)
def test_a_killed_run_goes_on_bit_for_bit(data, tmp_path, monkeypatch, more):
    short = [*more, "--steps", "5", *settings("training.save_every=3", "training.log_every=1")]
    assert train(data, tmp_path / "whole", *short) == 0

    losses = EncoderTask.losses

    def die_at_five(self, modules, batch, phase, step):
        if step == 5:
            raise KeyboardInterrupt
        return losses(self, modules, batch, phase, step)

    monkeypatch.setattr(EncoderTask, "losses", die_at_five)
    assert train(data, tmp_path / "killed", *short) == 130
    monkeypatch.setattr(EncoderTask, "losses", losses)
    assert train(data, tmp_path / "killed", *short) == 0
    whole, killed = (weights(tmp_path / name / "last.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys() and all(torch.equal(whole[k], killed[k]) for k in whole)
    assert rows(tmp_path / "killed", "train")[-1]["ge2e"] == rows(tmp_path / "whole", "train")[-1]["ge2e"]


@pytest.mark.pictures
def test_training_learns_and_leaves_an_encoder(data, tmp_path, capsys):
    more = settings("training.log_every=5", "training.learning_rate=3e-3", "augment.noise=0", "augment.babble=0")
    assert train(data, tmp_path / "run", "--steps", "40", *more) == 0
    found = rows(tmp_path / "run", "train")
    assert found[-1]["ge2e"] < 0.8 * found[0]["ge2e"]
    assert rows(tmp_path / "run", "validation")[-1]["eer"] < 0.5
    assert list((tmp_path / "run" / "figures").glob("similarity_*.png"))
    checkpoint = load_weights(tmp_path / "run" / "best.safetensors", "encoder")
    assert "eer_1s" in checkpoint.metrics and checkpoint.extra["speakers"] == 4
    encoder = SpeakerEncoder.load(tmp_path / "run" / "best.safetensors")
    assert encoder.embed(voice(1, 2.0)).shape == (256,)
    assert "best.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "losses"),
    [
        (["loss.distill_weight=1", "loss.ge2e_weight=0", "loss.center=true"], {"distill"}),
        (["loss.distill_weight=1", "loss.ge2e_weight=0.5", "loss.speaker_share=1"], {"distill", "ge2e", "eer"}),
        (["loss.aam_weight=1", "loss.ge2e_weight=0", "data.utterances=1"], {"aam"}),
        ([], {"ge2e", "eer"}),
    ],
)
def test_every_loss_can_be_chosen(data, tmp_path, more, losses):
    assert train(data, tmp_path, "--steps", "2", *settings(*more, "training.log_every=1")) == 0
    row = rows(tmp_path, "train")[-1]
    always = {"step", "hours", "group", "gradient_norm", "learning_rate", "steps_per_second", "waiting_for_data"}
    assert row.keys() - always == losses
    assert ("prototypes" in weights(tmp_path / "last.safetensors")) == ("aam" in losses)
    assert ("teacher_cosine_1s" in rows(tmp_path, "validation")[-1]) == ("distill" in losses)
    SpeakerEncoder.load(tmp_path / "last.safetensors")


def test_a_student_comes_to_its_teacher(data, tmp_path):
    names = ["loss.distill_weight=2", "loss.ge2e_weight=0", "loss.center=true", "training.learning_rate=3e-3"]
    assert train(data, tmp_path, "--steps", "40", *settings(*names, "training.log_every=5")) == 0
    first, *_, last = [row["distill"] / 2 for row in rows(tmp_path, "train")]
    assert 0.8 < first < 1.2 and last < 0.75


def test_starting_from_another_checkpoint(data, tmp_path):
    assert train(data, tmp_path / "a", "--steps", "3") == 0
    source = tmp_path / "a" / "last.safetensors"
    assert (
        train(data, tmp_path / "b", "--steps", "1", "--from", str(source), *settings("training.learning_rate=1e-9"))
        == 0
    )
    a, b = weights(source), weights(tmp_path / "b" / "last.safetensors")
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_two_processes_equal_one(data, tmp_path):
    more = ["--steps", "3", "--threads", "1"]
    more += settings("training.log_every=1", "loss.distill_weight=0.5", "data.speakers=4")
    assert train(data, tmp_path / "one", *more) == 0
    body = "import encoder_train\nsys.exit(encoder_train.main(sys.argv[1:]))\n"
    done = launch_two(tmp_path, body, data, "--out", tmp_path / "two", *SMALL, *more)
    assert done.stdout.count("best weights") == 1
    one, two = (weights(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for name in one:
        # a tenth of what three steps of Adam move a weight; it blows up rounding where a gradient is nearly 0
        torch.testing.assert_close(one[name], two[name], atol=3e-4, rtol=0)
    first, second = (rows(tmp_path / name, "train") for name in ("one", "two"))
    for a, b in zip(first, second, strict=True):
        assert a["ge2e"] == pytest.approx(b["ge2e"], abs=1e-4)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-3)


def test_gathered_gradient_is_that_of_the_whole_batch(data):
    """One process, rows dealt out and put back as `gather_rows` does: order and gradient of the undivided batch."""
    embeddings = torch.nn.functional.normalize(torch.rand(8, 16), dim=1).requires_grad_()
    shards = [Task.shard(None, {"e": embeddings}, rank, 2)["e"] for rank in range(2)]
    together = torch.stack(shards, dim=1).flatten(0, 1)
    assert torch.equal(together, embeddings)
    value, eer = ge2e_loss(together.unflatten(0, (4, 2)), torch.tensor(10.0), torch.tensor(-5.0))
    value.backward()
    assert embeddings.grad.abs().sum() > 0 and 0 <= eer <= 1


def test_blanked_regions_take_the_rows_level():
    mel = torch.rand(2, 6, 10) + 0.5
    blanked = apply_masks(mel, torch.tensor([[1, 3, 4, 6], [0, 0, 0, 0]]))
    level = mel[0].log().mean().exp()
    torch.testing.assert_close(blanked[0, 1:3], level.expand(2, 10))
    torch.testing.assert_close(blanked[0, :, 4:6], level.expand(6, 2))
    assert torch.equal(blanked[0, 3:, 6:], mel[0, 3:, 6:]) and torch.equal(blanked[1], mel[1])


def test_prototypes_begin_at_the_teachers_mean_of_a_voice(tmp_path):
    write_set(tmp_path, teacher=16, speeds=(0.9,))
    more = {"distill_weight": 1.0, "aam_weight": 1.0, "center": True}
    settings = RunConfig(
        EncoderConfig(embedding_size=16),
        DataConfig(speakers=4),
        AugmentConfig(speed=0.5, speeds=(0.9, 1.1)),
        LossConfig(**more),
    )
    task = build_task(read_manifest(tmp_path), settings)
    found, batches = task.modules["encoder"].prototypes.detach(), task.batches
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3 * 4))
    for voice_number in (0, 1):
        for speaker, (first, count) in enumerate(zip(batches.cycler.first, batches.cycler.counts, strict=True)):
            mean = batches.targets[voice_number, first : first + count].float().mean(dim=0)
            row = found[voice_number * 4 + speaker]
            assert torch.nn.functional.cosine_similarity(row, mean, dim=0) > 0.999
    assert found[8:].unique(dim=0).size(0) == 4  # unheard: at random


def test_margin_and_crops_follow_the_run(data):
    loss = LossConfig(ge2e_weight=0, aam_weight=1, aam_margin=0.2, aam_rise=0.5, aam_final_margin=0.4)
    settings = RunConfig(EncoderConfig(), DataConfig(speakers=2, final_share=0.25), AugmentConfig(), loss)
    task = build_task(read_manifest(data), settings)
    margins = [task._margin(progress) for progress in (0, 0.25, 0.5, 0.74, 0.75, 1)]
    assert margins == pytest.approx([0, 0.1, 0.2, 0.2, 0.4, 0.4])
    task.progress = 0.75
    assert task.batch(1)["wav"].size(1) >= 3 * RATE
    assert not task.resident(torch.device("cpu"))  # a CPU reads what it needs


def test_validation_tells_voices_within_a_corpus_and_how_far_a_speakers_recordings_spread():
    random = np.random.default_rng(0)
    centers = random.standard_normal((6, 32))
    names = ["a-1", "a-2", "a-3", "b-1", "b-2", "c-1"]
    speakers = np.repeat(np.arange(6), 4)
    recordings = np.arange(24) // 2  # two crops of each recording
    recordings[-4:] = recordings[-4]  # the last speaker has one

    def measured(noise: float) -> dict[str, float]:
        rows = centers[speakers] + noise * random.standard_normal((24, 32))
        crops = ValidationCrops(1.0, rows, recordings, speakers, recordings, names, None)
        return measure(rows / np.linalg.norm(rows, axis=1, keepdims=True), crops)

    near, far = measured(0.1), measured(3.0)
    assert near.keys() == {"eer", "eer_a", "eer_b", "spread"}  # one speaker of c says nothing
    assert near["eer"] == near["eer_a"] == 0 and far["eer"] > 0.2
    assert near["spread"] < 0.1 and 0.5 < far["spread"] < 1.1


def test_loader_processes_get_no_weights(data):
    task = build_task(read_manifest(data), load_config(RunConfig, "encoder", "debug"))
    travels = task.__getstate__()
    assert travels["modules"] == {} and travels["crops"] == [] and task.modules
    assert task.names(1) == [task.batches.utterances[i].id for i in task.batches.cycler.draw(1, 2, 2)[1].ravel()]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "loss.distil_weight=1"], "unknown settings ['distil_weight']"),
        (["--config", "nothing"], "no preset 'nothing'"),
        (["--set", "model.mel.sample_rate=22050"], "16000 Hz at -30.0 dBFS, the encoder wants 22050 Hz at -30.0"),
        (["--set", "model.target_dbfs=-10"], "the encoder wants 16000 Hz at -10.0 dBFS"),
        (["--set", "loss.distill_weight=1", "--set", "model.embedding_size=16"], "have 256 dimensions, the model's 16"),
    ],
)
def test_mistakes_get_one_line(data, tmp_path, capsys, more, message):
    assert train(data, tmp_path, *more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_a_batch_for_larger_sets_takes_all_speakers(data, caplog):
    config = load_config(RunConfig, "encoder", "debug", ["data.speakers=9"])
    task = build_task(read_manifest(data), config)
    assert task.config.data.speakers == len(task.batches.speakers) == 4
    assert "4 training speakers: a batch has all of them, not 9" in caplog.text


def test_distillation_without_a_teacher_is_refused(tmp_path, capsys):
    write_set(tmp_path / "set")
    assert train(tmp_path / "set", tmp_path / "run", "--set", "loss.distill_weight=1") == 2
    assert "(here: encoder_preprocess.py --teacher CHECKPOINT)" in capsys.readouterr().err


def test_speeds_that_nothing_learns_from_are_refused(data, tmp_path, capsys):
    more = [f"--set={s}" for s in ("augment.speed=0.5", "loss.distill_weight=1", "loss.ge2e_weight=0")]
    assert train(data, tmp_path, *more) == 2
    assert "(here: encoder_preprocess.py --teacher CHECKPOINT --speeds" in capsys.readouterr().err


# -- preprocessing -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("corpora") / "toy"
    speech, rate = soundfile.read(ROOT / "samples" / "austen_0870.wav", dtype="float32")
    for speaker in range(4):
        folder = root / f"speaker{speaker}"
        folder.mkdir(parents=True)
        for i in range(2):
            soundfile.write(folder / f"clip{i}.wav", speech[i * 20000 + 1000 * speaker :][: 3 * rate], rate)
    (root / "speaker1" / "broken.wav").write_bytes(b"RIFF....WAVEnonsense")
    soundfile.write(root / "speaker2" / "silence.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(root / "speaker2" / "short.wav", speech[8000:12000], rate)
    noise = root.parent / "noise"
    noise.mkdir()
    soundfile.write(noise / "rain.flac", np.random.default_rng(0).uniform(-0.9, 0.9, 44100), 44100)
    return root


def preprocess(corpus: Path, out: Path, *more: str) -> int:
    return encoder_preprocess.main([str(corpus), "--out", str(out), "--jobs", "1", "--validation", "0.3", *more])


def test_preprocessing_keeps_speech_and_counts_the_rest(corpus, data_dir, tmp_path, capsys):
    out, teacher = tmp_path / "set", data_dir / "encoder_tiny.pt"
    more = ["--teacher", str(teacher), "--noise", str(corpus.parent / "noise"), "--exclude", "*speaker3"]
    assert preprocess(corpus, out, *more) == 0
    assert "broken.wav" in capsys.readouterr().out
    manifest = read_manifest(out, "encoder")
    assert len(manifest.utterances) == 6 and sum(manifest.header["skipped"].values()) == 3
    assert manifest.header["noise"] == 1
    assert {u.speaker[-1] for u in manifest.utterances} == set("012")
    arrays, encoder = Arrays(out), SpeakerEncoder.load(teacher)
    found = read_teacher_embeddings(out)
    assert found.ids == [u.id for u in manifest.utterances] and found.fingerprint == encoder.fingerprint
    for utterance, heard in zip(manifest.utterances, found.embeddings[OWN], strict=True):
        wav = arrays.read(utterance, "wav")
        assert wav.dtype == np.int16 and len(wav) / RATE == pytest.approx(utterance.seconds, abs=1e-3)
        as_inference = encoder.preprocess(corpus / utterance.path).samples
        np.testing.assert_allclose(wav / 32767, as_inference, atol=1 / 32767)
        found = encoder.embed_windows([(wav / 32767).astype(np.float32)], PartialConfig())[0]
        np.testing.assert_allclose(heard, found.embedding, atol=2e-3)

    before = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    assert preprocess(corpus, out, *more) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()} == before


def test_a_teacher_of_another_level_is_refused(data, data_dir, monkeypatch):
    teacher = SpeakerEncoder.load(data_dir / "encoder_tiny.pt")
    teacher.config = dataclasses.replace(teacher.config, target_dbfs=-20.0)
    monkeypatch.setattr(SpeakerEncoder, "load", lambda *_: teacher)
    with pytest.raises(CloningError, match="at -30.0 dBFS, the encoder wants 16000 Hz at -20.0 dBFS: choose another"):
        teach.embed_with_teacher(read_manifest(data), data_dir / "encoder_tiny.pt", [OWN])


def test_a_teacher_hears_other_voices_and_only_what_is_new(corpus, data_dir, tmp_path, monkeypatch):
    teacher = ["--teacher", str(data_dir / "encoder_tiny.pt"), "--device", "cpu"]
    assert preprocess(corpus, tmp_path, *teacher, "--limit", "3", "--speeds", "0.9", "1.25", "--formants", "0.85") == 0
    first = read_teacher_embeddings(tmp_path)
    assert list(first.embeddings) == [OWN, (0.9, 1), (1.25, 1), (1, 0.85)]
    arrays, encoder = Arrays(tmp_path), SpeakerEncoder.load(data_dir / "encoder_tiny.pt")
    wav = (arrays.read(read_manifest(tmp_path).utterances[0], "wav") / 32767).astype(np.float32)
    for speed in (0.9, 1.25):
        expected = encoder.embed_windows([change_speed(wav, speed)], PartialConfig())[0].embedding
        np.testing.assert_allclose(first.embeddings[speed, 1.0][0], expected, atol=2e-3)
    assert np.abs(first.embeddings[1.0, 0.85][0] - first.embeddings[OWN][0]).max() > 0.01

    heard: list[int] = []
    embed = teach.embed_clips
    monkeypatch.setattr(
        teach, "embed_clips", lambda e, clips, voice: heard.append(len(clips)) or embed(e, clips, voice)
    )
    assert preprocess(corpus, tmp_path, *teacher) == 0  # all clips; what was heard before is kept, in all its voices
    second = read_teacher_embeddings(tmp_path)
    assert (
        sum(heard) == 4 * (len(second.ids) - len(first.ids)) > 0 and second.embeddings.keys() == first.embeddings.keys()
    )
    for made, before in first.embeddings.items():
        kept = [second.embeddings[made][second.ids.index(id)] for id in first.ids]
        np.testing.assert_array_equal(kept, before)


def test_a_teacher_that_sees_the_end_is_given_it(corpus, data, tmp_path):
    """Our own encoders stop at the end of a clip; the published one sees silence after it."""
    assert train(data, tmp_path, "--steps", "1") == 0
    encoder = SpeakerEncoder.load(tmp_path / "last.safetensors")
    clips = [(voice(s, seconds) * 32767).astype(np.int16) for s, seconds in ((1, 0.9), (2, 3.3), (3, 2.35))]
    found = teach.embed_clips(encoder, clips, OWN)
    for clip, row in zip(clips, found.numpy(), strict=True):
        expected = encoder.embed_windows([(clip / 32767).astype(np.float32)], PartialConfig())[0].embedding
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_preprocessing_refuses_what_cannot_work(corpus, tmp_path, capsys):
    assert preprocess(corpus, tmp_path / "s", "--speeds", "0.9") == 2
    assert "give --teacher" in capsys.readouterr().err
    for name in ("--speeds", "--formants"):
        with pytest.raises(SystemExit, match="2"):
            preprocess(corpus, tmp_path / "s", name, "1", "--teacher", "x.pt")
        assert f"{name}: 1: factors lie in 0.5 .. 2 and are not 1" in capsys.readouterr().err
    for name, value in (
        ("--min-seconds", "nan"),
        ("--min-seconds", "-1"),
        ("--rooms", "-3"),
        ("--seed", "-1"),
        ("--validation", "nan"),
    ):
        with pytest.raises(SystemExit, match="2"):
            preprocess(corpus, tmp_path / "s", name, value)
        assert f"argument {name}: {value}: it must be" in capsys.readouterr().err
    assert preprocess(corpus, tmp_path / "a", "--teacher", str(tmp_path / "none.pt")) == 2
    assert "no such checkpoint" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert preprocess(corpus, tmp_path / "b", "--noise", str(tmp_path / "empty")) == 2
    assert "no audio in it" in capsys.readouterr().err
