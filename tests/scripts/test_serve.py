"""serve.py as a user starts and ends it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

import serve
from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from utils.library import Library
from voice_cloner import VoiceCloner


def refused(capsys, *arguments: str) -> str:
    assert serve.main([*arguments, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said
    return said


def test_other_addresses_need_a_token(capsys, tmp_path):
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        assert "give a --token-file" in refused(capsys, "--host", host)
    token = tmp_path / "token"
    for text in ("", "short", "two words are no token at all", "ünicode-is-not-a-token"):
        token.write_text(text, encoding="utf-8")
        assert "--token-file" in refused(capsys, "--token-file", str(token))
    assert "No such file" in refused(capsys, "--token-file", str(tmp_path / "none"))


def test_bounds_a_port_that_is_taken_and_a_missing_package(capsys, monkeypatch):
    assert "--max-waiting is 0; it must be 1 to 10000" in refused(capsys, "--max-waiting", "0")
    assert "--timeout is nan" in refused(capsys, "--timeout", "nan")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another port" in refused(capsys, "--port", str(taken.getsockname()[1]))
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert "pip install -r requirements/serve.txt" in refused(capsys)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
def test_sigterm_ends_after_what_was_accepted(tmp_path):
    models = save_tiny_models(tmp_path / "models")
    cloner = VoiceCloner.load(models, device="cpu")
    voice = cloner.embed_voice(ROOT / "samples" / "austen_0890.wav")
    Library(tmp_path / "voices", shipped=None).save("ann", voice, consent="Ann agreed")
    command = [sys.executable, "serve.py", "--models", str(models), "--voices", str(tmp_path / "voices"), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = process.stdout.readline().strip()
    asked = {"model": "m", "voice": "ann", "input": "Hello there, old friend. " * 40, "response_format": "wav"}
    taken: list[int] = []

    def ask() -> None:
        with httpx.stream("POST", f"{url}/audio/speech", json=asked, timeout=60) as answer:
            for chunk in answer.iter_raw():
                taken.append(len(chunk))

    thread = threading.Thread(target=ask)
    thread.start()
    while not taken:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    thread.join(60)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in said
    assert sum(taken) > 40 * 16_000  # half a second and more for each sentence
