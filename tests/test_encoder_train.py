"""The scripts for real: train, stop, go on; two processes; preprocessing with bad files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import encoder_preprocess
import encoder_train
from encoder.inference import SpeakerEncoder
from encoder.names import teacher_at
from encoder.settings import AugmentConfig, EncoderSettings
from encoder.train import EncoderTask, blank_out, ge2e_loss
from tests.encoder_set import RATE, voice, write_set
from tests.launching import launch_two
from utils.audio import change_speed
from utils.checkpoint import load_weights
from utils.config import load_config
from utils.manifest import Arrays, read_manifest
from utils.task import Task

ROOT = Path(__file__).resolve().parent.parent
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
        (["loss.distill_weight=1", "loss.ge2e_weight=0.5", "loss.target=partials"], {"distill", "ge2e", "eer"}),
        (["loss.aam_weight=1", "loss.ge2e_weight=0", "data.utterances=1"], {"aam"}),
        (["loss.ge2e=contrast"], {"ge2e", "eer"}),
        (["loss.ge2e=angular"], {"ge2e", "eer"}),
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
    value, eer = ge2e_loss(together.unflatten(0, (4, 2)), torch.tensor(10.0), torch.tensor(-5.0), "softmax")
    value.backward()
    assert embeddings.grad.abs().sum() > 0 and 0 <= eer <= 1


def test_blanked_regions_take_the_rows_level():
    mel = torch.rand(2, 6, 10) + 0.5
    blanked = blank_out(mel, torch.tensor([[1, 3, 4, 6], [0, 0, 0, 0]]))
    level = mel[0].log().mean().exp()
    torch.testing.assert_close(blanked[0, 1:3], level.expand(2, 10))
    torch.testing.assert_close(blanked[0, :, 4:6], level.expand(6, 2))
    assert torch.equal(blanked[0, 3:, 6:], mel[0, 3:, 6:]) and torch.equal(blanked[1], mel[1])


def test_loader_processes_get_no_weights(data):
    task = EncoderTask(read_manifest(data), load_config(EncoderSettings, "encoder", "debug"))
    travels = task.__getstate__()
    assert travels["modules"] == {} and travels["crops"] == [] and task.modules
    assert task.names(1) == [d.utterance.id for d in task.batches.cycler.draw(1, 2, 2)]
    assert not AugmentConfig(0, babble=0, reverb=0, band_limit=0, telephone=0, gain=0, mask=0).any


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "loss.distil_weight=1"], "unknown settings ['distil_weight']"),
        (["--config", "nothing"], "no preset 'nothing'"),
        (["--set", "data.speakers=9"], "4 training speakers, a batch wants 9"),
        (["--set", "loss.distill_weight=1", "--set", "model.embedding_size=16"], "have 256 dimensions, the model's 16"),
    ],
)
def test_mistakes_get_one_line(data, tmp_path, capsys, more, message):
    assert train(data, tmp_path, *more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_distillation_without_a_teacher_is_refused(tmp_path, capsys):
    write_set(tmp_path / "set")
    assert train(tmp_path / "set", tmp_path / "run", "--set", "loss.distill_weight=1") == 2
    assert "preprocess with --teacher" in capsys.readouterr().err


def test_speeds_that_nothing_learns_from_are_refused(data, tmp_path, capsys):
    more = [f"--set={s}" for s in ("augment.speed=0.5", "loss.distill_weight=1", "loss.ge2e_weight=0")]
    assert train(data, tmp_path, *more) == 2
    assert "preprocess with --speeds" in capsys.readouterr().err


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
    assert manifest.header["teacher"]["embedding_size"] == 16 and manifest.header["noise"] == 1
    assert {u.speaker[-1] for u in manifest.utterances} == set("012")
    arrays, encoder = Arrays(out), SpeakerEncoder.load(teacher)
    for utterance in manifest.utterances:
        wav = arrays.read(utterance, "wav")
        assert wav.dtype == np.int16 and len(wav) / RATE == pytest.approx(utterance.seconds, abs=1e-3)
        as_inference = encoder.preprocess(corpus / utterance.path).samples
        np.testing.assert_allclose(wav / 32767, as_inference, atol=1 / 32767)
        found = encoder.embed_windows([(wav / 32767).astype(np.float32)])[0]
        np.testing.assert_allclose(arrays.read(utterance, "teacher"), found.embedding, atol=2e-3)
        np.testing.assert_allclose(arrays.read(utterance, "teacher_partials"), found.partials, atol=2e-3)

    before = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    assert preprocess(corpus, out, *more) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()} == before


def test_a_teacher_hears_other_speeds(corpus, data_dir, tmp_path):
    teacher = data_dir / "encoder_tiny.pt"
    assert preprocess(corpus, tmp_path, "--teacher", str(teacher), "--speeds", "0.9", "1.25") == 0
    manifest = read_manifest(tmp_path, "encoder")
    assert manifest.header["teacher"]["speeds"] == [0.9, 1.25]
    arrays, encoder = Arrays(tmp_path), SpeakerEncoder.load(teacher)
    utterance = manifest.utterances[0]
    wav = (arrays.read(utterance, "wav") / 32767).astype(np.float32)
    for speed in (0.9, 1.25):
        expected = encoder.embed_utterance(change_speed(wav, speed))
        np.testing.assert_allclose(arrays.read(utterance, teacher_at(speed)), expected, atol=2e-3)


def test_preprocessing_refuses_what_cannot_work(corpus, tmp_path, capsys):
    assert preprocess(corpus, tmp_path / "s", "--speeds", "0.9") == 2
    assert "give --teacher" in capsys.readouterr().err
    assert preprocess(corpus, tmp_path / "s", "--speeds", "1", "--teacher", "x.pt") == 2
    assert "are not 1" in capsys.readouterr().err
    assert preprocess(corpus, tmp_path / "a", "--teacher", str(tmp_path / "none.pt")) == 2
    assert "no such checkpoint" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert preprocess(corpus, tmp_path / "b", "--noise", str(tmp_path / "empty")) == 2
    assert "no audio in it" in capsys.readouterr().err
