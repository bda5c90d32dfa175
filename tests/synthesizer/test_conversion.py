"""Mels of another front end: frames and places, a fresh network, what is learned from, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from synthesizer.config import RunConfig
from synthesizer.conversion import ConversionConfig, converted_frames, frame_step
from synthesizer.data.preprocess import write_speaker_means
from synthesizer.models.mel_conversion import MelConversion, at_places
from synthesizer.text.processor import TextProcessor
from synthesizer.training.conversion import EDGE, ConversionTask
from tests.support.tiny import save_tiny_models
from tests.support.vocoder_set import voice
from utils.audio.io import from_pcm16, resample, to_pcm16
from utils.audio.mel import SYNTHESIZER_MEL, SYNTHESIZER_MEL_22K, mel_spectrogram
from utils.config import load_config, to_dict
from utils.data.manifest import Arrays, Manifest, Utterance, read_manifest, write_manifest, write_shard
from utils.errors import CloningError

STEP = frame_step(SYNTHESIZER_MEL, SYNTHESIZER_MEL_22K)


@pytest.mark.parametrize("frames", [1, 2, 3, 80, 81, 1000, 1001])
def test_there_are_as_many_frames_as_the_sound_has(frames):
    samples = round((frames - 1) * SYNTHESIZER_MEL.frame_seconds * SYNTHESIZER_MEL_22K.sample_rate)
    assert converted_frames(frames, STEP) in (
        SYNTHESIZER_MEL_22K.frames(samples),
        SYNTHESIZER_MEL_22K.frames(samples) + 1,
    )
    assert (converted_frames(frames, STEP) - 1) * STEP <= frames - 1
    assert converted_frames(frames, 1.0) == frames


def test_between_two_places_is_a_line():
    frames = torch.randn(2, 5, 3)
    torch.testing.assert_close(at_places(frames, torch.arange(5.0)), frames)
    middle = at_places(frames, torch.tensor([0.25, 4.0, 4.5]))
    torch.testing.assert_close(middle[:, 0], 0.75 * frames[:, 0] + 0.25 * frames[:, 1])
    torch.testing.assert_close(middle[:, 1:], frames[:, 4:].expand(-1, 2, -1))


def test_it_begins_with_what_it_is_given_and_depends_on_what_is_near():
    network = MelConversion(ConversionConfig(channels=8, blocks=(1, 1)), 80).eval()
    mel = torch.randn(2, 80, 60)
    made = network(mel, STEP)
    assert made.shape == (2, 80, converted_frames(60, STEP))
    torch.testing.assert_close(made.transpose(1, 2), at_places(mel.transpose(1, 2), torch.arange(made.shape[2]) * STEP))
    torch.nn.init.normal_(network.output_projection.weight)
    later = mel.clone()
    later[:, :, 40:] = 0
    reach = 3 + 3 * STEP + 1  # frames of the two kernels, and of the interpolation
    unchanged = int((40 - reach) / STEP)
    torch.testing.assert_close(network(later, STEP)[..., :unchanged], network(mel, STEP)[..., :unchanged])
    assert not torch.allclose(network(later, STEP), network(mel, STEP))


def make_set(root: Path, audio: bool = True) -> Manifest:
    """Eight made-up voices, with their waveforms."""
    text = TextProcessor("phonemes")
    utterances, arrays = [], {}
    for number in range(8):
        wav, name = voice(1.0 + 0.1 * number, number), f"toy/{number}"
        mel = mel_spectrogram(torch.from_numpy(wav), SYNTHESIZER_MEL).t().numpy()
        tokens = np.array(text.encode("See it."), np.int16)
        durations = np.zeros(len(tokens), np.int16)
        durations[0] = len(mel)
        fields = {"mel": mel.astype(np.float16), "tokens": tokens, "durations": durations, "wav": to_pcm16(wav)}
        fields["embed"] = np.eye(256, dtype=np.float32)[number]
        arrays |= {f"{name}/{field}": value for field, value in fields.items()}
        utterances.append(
            Utterance(
                name, f"toy-{number}", "-", len(wav) / 16000, len(mel), "See it.",
                split="validation" if number < 2 else "train", shard="shards/0.safetensors",
                extra={"tokens": len(tokens)},
            )
        )  # fmt: skip
    write_shard(root, "0", utterances, arrays, [])
    header = {"mel": to_dict(SYNTHESIZER_MEL), "text": text.describe(), "durations": True, "audio": audio}
    found = write_manifest(root, "synthesizer", utterances, [], **header)
    write_speaker_means(found)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, RunConfig]:
    """A set with its waveforms, and the settings of a run on it."""
    root = tmp_path_factory.mktemp("conversion")
    make_set(root / "set")
    base = save_tiny_models(root / "models", "non_attentive_transformer") / "synthesizer.safetensors"
    settings = [f"conversion_of={base}", "model.conversion.channels=8", "data.window=40", "data.batch_size=4"]
    return root, load_config(RunConfig, "synthesizer", "transformer_22k", [*settings, "data.min_frames=1"])


def test_stretches_are_those_of_the_recording(made):
    """But at a cut, where the window of a frame reaches beyond what was read: those frames do not count."""
    root, config = made
    task = ConversionTask(read_manifest(root / "set"), config)
    arrays = Arrays(root / "set")
    utterance = max(task.train.utterances, key=lambda u: u.frames)
    wav = from_pcm16(arrays.read(utterance, "wav"))
    whole = mel_spectrogram(torch.from_numpy(resample(wav, 16000, 22050)), SYNTHESIZER_MEL_22K).t()
    mel, wanted, known = task._stretch(task.train, utterance, 0)
    assert utterance.frames > 40 == len(mel) and len(wanted) == len(known) == converted_frames(40, STEP)
    assert known.tolist() == [True] * (len(known) - EDGE) + [False] * EDGE
    torch.testing.assert_close(wanted[known], whole[: len(wanted)][known], atol=0.05, rtol=0)
    assert (wanted - whole[: len(wanted)])[-1].abs().max() > 0.05
    known = task._stretch(task.train, utterance, utterance.frames - 40)[2]
    assert known.tolist() == [False] * EDGE + [True] * (len(known) - EDGE)


def test_only_the_conversion_has_gradients(made):
    root, config = made
    task = ConversionTask(read_manifest(root / "set"), config)
    losses = task.losses(task.modules, task.batch(1), "conversion", 1)
    losses["mel"].backward()
    learned = {name for name, p in task.model.named_parameters() if p.grad is not None}
    assert learned == {name for name, _ in task.model.named_parameters() if name.startswith("conversion.")}
    assert task.phases(1) == ["conversion"]
    again = ConversionTask(read_manifest(root / "set"), config)
    torch.testing.assert_close(task.losses(task.modules, again.batch(1), "conversion", 1)["mel"], losses["mel"])


def test_it_learns(made):
    root, config = made
    task = ConversionTask(read_manifest(root / "set"), config)
    with torch.inference_mode():
        before = task.validate(task.modules)
    optimizer = torch.optim.Adam(task.modules["conversion"].parameters(), 3e-3)
    for step in range(1, 31):
        optimizer.zero_grad()
        task.losses(task.modules, task.batch(step), "conversion", step)["mel"].backward()
        optimizer.step()
    with torch.inference_mode():
        after = task.validate(task.modules)
    assert after.score < 0.7 * before.score and after.metrics["mel_db"] == after.score
    assert np.isfinite(after.metrics["contrast"])


def test_what_it_cannot_learn_from_is_said(made, tmp_path):
    root, config = made
    found = read_manifest(root / "set")
    with pytest.raises(CloningError, match="conversion_of is empty"):
        ConversionTask(found, replace(config, conversion_of=""))
    with pytest.raises(CloningError, match="holds no waveforms"):
        ConversionTask(make_set(tmp_path / "mute", audio=False), config)
    found.header["mel"] = {**found.header["mel"], "hop_length": 100}
    with pytest.raises(CloningError, match="its mel is not that of"):
        ConversionTask(found, config)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel 4 must be odd"):
        ConversionConfig(kernel=4)
