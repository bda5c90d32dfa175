"""The server as programs meet it: OpenAI's client, voices, diarization, a full queue, clients that go."""

from __future__ import annotations

import base64
import json
import re
import threading
import time

import httpx
import numpy as np
import pytest

from server.encoding import MEDIA, PCM_RATE
from server.limits import Limits
from tests.server.conftest import CLIP, until
from utils.audio.io import Waveform, from_pcm16, read

TEXT = "Hello there, old friend. Good morning!"
ASKED = {"model": "tts-1", "voice": "ann", "input": TEXT, "seed": 1}


def speech(running, **changed):
    return httpx.post(f"{running.url}/v1/audio/speech", json=ASKED | changed, timeout=60)


def test_openai_gets_the_same_speech_as_python(serve, cloner):
    openai = pytest.importorskip("openai")
    running = serve()
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
    how = {"model": "tts-1", "voice": "alloy", "input": TEXT, "speed": 1.5, "extra_body": {"seed": 1}}
    wanted = np.concatenate(
        [p.samples for p in cloner.stream(running.server.library.load("ann"), TEXT, seed=1, rate=1.5)]
    )
    answer = client.audio.speech.create(response_format="wav", **how).read()
    heard = read(answer)
    assert b"synthetic speech" in answer and heard.sample_rate == 16000
    np.testing.assert_allclose(heard.samples, wanted.clip(-1, 1), atol=1e-4)
    with client.audio.speech.with_streaming_response.create(response_format="pcm", **how) as stream:
        pcm = b"".join(stream.iter_bytes())
    assert len(pcm) / 2 / PCM_RATE == pytest.approx(len(wanted) / 16000, abs=0.002)
    with pytest.raises(openai.BadRequestError, match="no voice 'nobody'") as caught:
        client.audio.speech.create(model="tts-1", voice="nobody", input="Hi.")
    assert caught.value.param == "voice" and caught.value.code == "voice_not_found"
    assert not running.failures


@pytest.mark.parametrize("kind", sorted(MEDIA))
def test_every_format_holds_the_speech(serve, kind):
    running = serve()
    answer = speech(running, response_format=kind)
    assert answer.status_code == 200 and answer.headers["content-type"] == MEDIA[kind]
    reference = read(speech(running, response_format="flac").content)
    if kind == "pcm":
        heard = Waveform(from_pcm16(np.frombuffer(answer.content, "<i2")), PCM_RATE)
    else:
        heard = read(answer.content, sample_rate=None)
    assert heard.seconds == pytest.approx(reference.seconds, abs=0.15)  # encoders pad
    assert heard.dbfs == pytest.approx(reference.dbfs, abs=3)
    assert (b"synthetic speech" in answer.content) == (kind not in ("aac", "pcm"))


def test_a_seed_that_is_not_asked_for_is_random_and_named(serve, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    running = serve()
    plain, other = (speech(running, response_format="wav", seed=None).content for _ in range(2))
    seed, second = (int(re.search(rb"seed (\d+)", wav)[1]) for wav in (plain, other))
    assert seed != second and speech(running, response_format="wav", seed=seed).content == plain


def test_events_carry_the_same_bytes(serve):
    running = serve()
    lines = speech(running, stream_format="sse", response_format="pcm").text.split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert [e["type"] for e in events] == ["speech.audio.delta"] * (len(events) - 1) + ["speech.audio.done"]
    sound = b"".join(base64.b64decode(e["audio"]) for e in events[:-1])
    assert sound == speech(running, response_format="pcm").content


def test_a_voice_is_added_only_with_consent_and_never_over_another(serve):
    running = serve()
    url, clip = f"{running.url}/v1/voices", {"file": ("a.wav", CLIP)}
    for consent in ({}, {"consent": " "}, {"consent": "no"}):
        refused = httpx.post(url, data={"name": "ben"} | consent, files=clip)
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "consent_required"
    assert "ben" not in running.server.library.names()
    data = {"name": "ben", "consent": "Ben agreed"}
    assert httpx.post(url, data=data, files=clip, timeout=60).status_code == 201
    assert running.server.library.load("ben").consent == "Ben agreed"
    assert httpx.post(url, data=data, files=clip).status_code == 409
    assert {v["id"] for v in httpx.get(url).json()["data"]} == {"alloy", "ann", "ben"}
    assert speech(running, voice={"id": "ben"}).status_code == 200


def test_diarization_without_a_calibration_says_so(serve):
    running = serve()
    answer = httpx.post(f"{running.url}/v1/diarize", files={"file": ("a.wav", CLIP)})
    assert answer.status_code == 501 and "diarization.json" in answer.json()["error"]["message"]


def test_a_token_is_asked_for_everywhere_but_at_health(serve):
    running = serve(token="correct-horse-battery")
    for path in ("/v1/voices", "/metrics", "/v1/models", "/openapi.json"):
        assert httpx.get(running.url + path).status_code == 401
        wrong = {"Authorization": "Bearer correct-horse-batterz"}
        assert httpx.get(running.url + path, headers=wrong).json()["error"]["code"] == "invalid_api_key"
        right = {"Authorization": "Bearer correct-horse-battery", "Host": "voices.example.org"}
        assert httpx.get(running.url + path, headers=right).status_code == 200
    assert httpx.get(f"{running.url}/healthz").json()["status"] == "ok"


def test_web_pages_of_others_cannot_use_a_server_without_a_token(serve):
    running = serve()
    for headers in ({"Host": "evil.example.org"}, {"Origin": "https://evil.example.org"}, {"Origin": "null"}):
        assert httpx.get(f"{running.url}/v1/voices", headers=headers).status_code == 403
    for headers in ({"Host": "localhost:8000"}, {"Origin": "http://localhost:3000"}):
        assert httpx.get(f"{running.url}/v1/voices", headers=headers).status_code == 200


@pytest.fixture
def gated(monkeypatch, cloner):
    """Speech that waits before every piece; gate.set() lets it go on. `begun`: how many have begun, and closed."""
    gate, begun, closed = threading.Event(), [], []

    def stream(voice, text, **how):
        def pieces():
            begun.append(text)
            try:
                for _ in range(50):
                    yield Waveform(np.zeros(800, np.float32), 16000)
                    gate.wait(30)
            finally:
                closed.append(text)

        return pieces()

    monkeypatch.setattr(cloner, "stream", stream)
    return gate, begun, closed


def test_a_full_queue_answers_429_and_the_others_are_served(serve, gated):
    gate, begun, _ = gated
    running, answers = serve(limits=Limits(waiting=2)), []
    threads = [threading.Thread(target=lambda: answers.append(speech(running).status_code)) for _ in range(3)]
    threads[0].start()
    until(lambda: begun)
    for thread in threads[1:]:
        thread.start()
    until(lambda: httpx.get(f"{running.url}/healthz").json()["waiting"] == 2)
    refused = speech(running)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"
    gate.set()
    for thread in threads:
        thread.join(30)
    assert answers == [200, 200, 200]


def test_the_first_sound_comes_while_the_rest_is_made(serve, gated):
    gate, _, _ = gated
    running = serve()
    with httpx.stream("POST", f"{running.url}/v1/audio/speech", json=ASKED | {"response_format": "wav"}) as answer:
        chunks = answer.iter_raw()
        assert next(chunks)[:4] == b"RIFF" and not gate.is_set()
        gate.set()
        assert sum(map(len, chunks)) >= 50 * 1600


def test_a_client_that_goes_frees_its_place(serve, gated):
    gate, begun, closed = gated
    running = serve(limits=Limits(waiting=1))
    url = f"{running.url}/v1/audio/speech"
    with httpx.stream("POST", url, json=ASKED | {"input": "first", "response_format": "wav"}):
        until(lambda: begun == ["first"])
        with pytest.raises(httpx.TimeoutException):  # waits in the queue, and gives up
            httpx.post(url, json=ASKED | {"input": "second"}, timeout=0.3)
        until(lambda: httpx.get(f"{running.url}/healthz").json()["waiting"] == 0)
    gate.set()
    until(lambda: closed == ["first"])
    assert speech(running, input="third").status_code == 200
    assert begun == ["first", "third"] and not running.failures


def test_a_client_that_takes_nothing_frees_its_place(serve, monkeypatch, cloner):
    closed = threading.Event()

    def endless(voice, text, **how):
        def pieces():
            try:
                while True:
                    yield Waveform(np.zeros(16000, np.float32), 16000)
            finally:
                closed.set()

        return pieces()

    monkeypatch.setattr(cloner, "stream", endless)
    running = serve(limits=Limits(unsent_bytes=2**20))
    with httpx.stream("POST", f"{running.url}/v1/audio/speech", json=ASKED | {"response_format": "wav"}):
        assert closed.wait(20)
    assert not running.failures


def test_work_that_takes_too_long_is_given_up(serve, gated):
    running = serve(limits=Limits(seconds=0.5, waiting=4))
    with httpx.stream("POST", f"{running.url}/v1/audio/speech", json=ASKED):
        late = speech(running)
    assert late.status_code == 503 and late.json()["error"]["code"] == "timeout" and "retry-after" in late.headers
    gated[0].set()
    assert not running.failures


def test_an_error_in_the_middle_cuts_the_connection(serve, monkeypatch, cloner):
    def broken(voice, text, **how):
        yield Waveform(np.zeros(16000, np.float32), 16000)
        raise RuntimeError("broken")

    monkeypatch.setattr(cloner, "stream", broken)
    running = serve()
    with pytest.raises(httpx.RemoteProtocolError):
        speech(running, response_format="wav")
    assert not running.failures


def test_metrics_count(serve):
    running = serve()
    speech(running), speech(running, input=" "), httpx.get(f"{running.url}/nowhere")
    text = httpx.get(f"{running.url}/metrics").text
    assert 'voice_requests_total{path="/v1/audio/speech",status="200"} 1.0' in text
    assert 'voice_requests_total{path="/v1/audio/speech",status="400"} 1.0' in text
    assert 'voice_requests_total{path="other",status="404"} 1.0' in text
    assert "voice_first_sound_seconds_count 1.0" in text
