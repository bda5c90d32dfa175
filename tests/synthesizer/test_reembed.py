"""A synthesizer's set with the embeddings of another encoder."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

import encoder_preprocess
import synthesizer_preprocess
import synthesizer_reembed
from encoder.model import load_network
from tests.conftest import SAMPLES
from utils.config import to_dict
from utils.data.manifest import Arrays, Manifest, read_manifest
from utils.weights.checkpoint import Header, load_weights, save_weights

pytestmark = pytest.mark.slow


def stays_as_it_was_on_a_full_disk(root: Path, arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    """There is room for one shard of two, and for both but not for the manifest."""

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def first_only(arrays: dict[str, np.ndarray], path: Path) -> None:
        if written:
            raise SafetensorError("IoError: No space left on device (os error 28)")
        save_file(arrays, path)
        written.append(path)

    def none(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before, written = contents(), []
    for name, writer in (("save_file", first_only), ("write_lines", none)):
        with mock.patch.object(synthesizer_reembed, name, writer):
            assert synthesizer_reembed.main(arguments) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1 and f"cannot write {root}" in errors[0] and "free" in errors[0]
        assert contents() == before


def test_a_set_given_another_encoders_embeddings_is_what_preprocessing_with_it_makes(data_dir, tmp_path, capsys):
    for speaker, name in (("ann", "goforward"), ("ben", "austen_0870")):
        (folder := tmp_path / "corpus" / speaker).mkdir(parents=True)
        shutil.copy(SAMPLES / f"{name}.wav", folder)
        (folder / f"{name}.txt").write_text("go forward ten meters", encoding="utf-8")
    published = load_weights(data_dir / "encoder_tiny.pt", "encoder")
    network, config = load_network(published)
    with torch.no_grad():
        network.linear.weight.mul_(torch.rand(network.linear.weight.shape, generator=torch.Generator().manual_seed(0)))
    other = tmp_path / "other.safetensors"
    mel = to_dict(config.mel)
    save_weights(other, Header("encoder", to_dict(config), mel=mel, step=1), network.state_dict())

    def preprocess(out: str, encoder: Path) -> Manifest:
        arguments = [tmp_path / "corpus", "--out", tmp_path / out, "--encoder", encoder, "--jobs", 1]
        assert synthesizer_preprocess.main([str(a) for a in arguments]) == 0
        return read_manifest(tmp_path / out, "synthesizer")

    fresh = preprocess("fresh", other)
    preprocess("set", data_dir / "encoder_tiny.pt")
    assert (
        encoder_preprocess.main([str(a) for a in [tmp_path / "corpus", "--out", tmp_path / "speech", "--jobs", 1]]) == 0
    )
    arguments = [tmp_path / "set", "--encoder", other, "--speech", tmp_path / "speech", "--device", "cpu"]
    stays_as_it_was_on_a_full_disk(tmp_path / "set", [str(a) for a in arguments], capsys)
    assert synthesizer_reembed.main([str(a) for a in arguments]) == 0
    changed = read_manifest(tmp_path / "set", "synthesizer")
    assert (changed.header, changed.utterances) == (fresh.header, fresh.utterances)
    for name in ("settings.json", "manifest.jsonl"):
        assert (tmp_path / "set" / name).read_text() == (tmp_path / "fresh" / name).read_text()
    for utterance in changed.utterances:
        one, two = (Arrays(tmp_path / name).read(utterance, "embed") for name in ("set", "fresh"))
        np.testing.assert_allclose(one, two, atol=2e-3)  # the speech is kept in 16 bits
        for name in ("mel", "tokens", "pitch"):
            one, two = (Arrays(tmp_path / folder).read(utterance, name) for folder in ("set", "fresh"))
            np.testing.assert_array_equal(one, two)
    means, wanted = (load_file(tmp_path / name / "speakers.safetensors") for name in ("set", "fresh"))
    assert means.keys() == wanted.keys() and all(np.allclose(means[k], wanted[k], atol=2e-3) for k in means)
    preprocess("set", other)  # goes on with the new encoder

    shutil.rmtree(tmp_path / "corpus" / "ben")
    assert (
        encoder_preprocess.main([str(a) for a in [tmp_path / "corpus", "--out", tmp_path / "less", "--jobs", 1]]) == 0
    )
    assert synthesizer_reembed.main([str(a) for a in [*arguments[:4], tmp_path / "less"]]) == 2
    assert "1 of 2 clips are not in it, such as corpus/ben/austen_0870: run" in capsys.readouterr().err
