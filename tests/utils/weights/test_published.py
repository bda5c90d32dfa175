"""Fetching the published weights, against a stub of the hub client: no network in tests."""

from __future__ import annotations

import hashlib

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from utils.errors import CloningError
from utils.weights import published


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that serves three small files; SIZES and SHA256 are theirs."""
    content = {"encoder.pt": b"e" * 10, "synthesizer.pt": b"s" * 20, "vocoder.pt": b"v" * 30}
    served = tmp_path / "hub"
    served.mkdir()
    for name, data in content.items():
        (served / name).write_bytes(data)
    calls = []

    def download(repository, name, revision):
        calls.append((repository, name, revision))
        return str(served / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(published, "SIZES", {name: len(data) for name, data in content.items()})
    monkeypatch.setattr(published, "SHA256", {"encoder.pt": hashlib.sha256(content["encoder.pt"]).hexdigest()})
    return served, calls


def test_files_are_fetched_once(hub, tmp_path):
    _, calls = hub
    folder = published.ensure_published(tmp_path / "models")
    assert sorted(p.name for p in folder.iterdir()) == ["encoder.pt", "synthesizer.pt", "vocoder.pt"]
    assert calls[0] == ("CorentinJ/SV2TTS", "encoder.pt", published.REVISION)
    published.ensure_published(folder)
    assert len(calls) == 3


def test_a_file_cut_off_is_fetched_again(hub, tmp_path):
    _, calls = hub
    folder = published.ensure_published(tmp_path / "models")
    (folder / "vocoder.pt").write_bytes(b"v" * 5)
    published.ensure_published(folder)
    assert calls[-1][1] == "vocoder.pt" and (folder / "vocoder.pt").stat().st_size == 30


def test_a_served_file_of_another_size_is_not_used(hub, tmp_path):
    served, _ = hub
    (served / "vocoder.pt").write_bytes(b"v" * 31)
    with pytest.raises(CloningError, match=r"vocoder.pt: 31 bytes, the published file has 30: not used"):
        published.ensure_published(tmp_path / "models")
    assert not (tmp_path / "models" / "vocoder.pt").exists()


def test_another_content_of_the_right_size_is_refused(hub, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "encoder.pt").write_bytes(b"x" * 10)
    with pytest.raises(CloningError, match=r"encoder.pt: sha256 .* the published file has .*delete it"):
        published.ensure_published(folder)


def test_without_a_network_one_line_says_what_to_put_where(hub, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(CloningError) as error:
        published.ensure_published(tmp_path / "models")
    message = str(error.value)
    assert "huggingface.co/CorentinJ/SV2TTS" in message and str(tmp_path / "models" / "encoder.pt") in message
    assert "\n" not in message
