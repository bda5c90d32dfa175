"""Requests of the wrong types, sizes and encodings, cut connections, path names: JSON errors, no traceback."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from server.limits import Limits
from tests.server.conftest import CLIP, until

LIMITS = Limits(characters=500, json_bytes=20_000, upload_bytes=400_000, body_seconds=0.5)
SPEECH = "/v1/audio/speech"
GOOD = {"model": "m", "voice": "ann", "input": "Hello."}
FIELDS = [
    {"input": ""}, {"input": " \n\t"}, {"input": "x" * 501}, {"input": None}, {"input": 5}, {"input": ["a"]},
    {"input": {"a": 1}}, {"input": "\ud800"}, {"input": "\u0000\u0001"}, {"input": "🙂🙂"}, {"input": "...!?"},
    {"voice": ""}, {"voice": None}, {"voice": 7}, {"voice": []},
    {"voice": {}}, {"voice": {"id": 3}}, {"voice": {"id": "../ann"}}, {"voice": "../../../../etc/passwd"},
    {"voice": "voices/ann"}, {"voice": "ann.safetensors"}, {"voice": "/etc/passwd"}, {"voice": "C:\\windows"},
    {"voice": "ann\u0000"}, {"voice": "a" * 5000}, {"voice": "con"}, {"voice": "~root"}, {"voice": "%2e%2e%2fann"},
    {"voice": "\udcff"}, {"model": 5}, {"model": None}, {"response_format": "exe"}, {"response_format": 1},
    {"speed": 0}, {"speed": -1}, {"speed": 1e300}, {"speed": "fast"}, {"speed": None}, {"speed": float("nan")},
    {"speed": float("inf")}, {"stream_format": "video"}, {"seed": -1}, {"seed": 2**70}, {"seed": "one"},
    {"seed": 1.5}, {"instructions": 5},
]  # fmt: skip
BODIES = [
    b"", b"{", b"[]", b"null", b"5", b'"text"', b"\xff\xfe\x00", b"[" * 15_000, b'{"input": "a", "input"',
    b"x" * 25_000, b'{"speed": ' + b"9" * 10_000 + b"}", b'{"input": "caf\xe9", "voice": "ann"}',
]  # fmt: skip
RAW = [
    b"GARBAGE\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: [bad\r\nContent-Length: 0\r\n\r\n",
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",  # and then nothing
    b"GET /v1/voices/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"DELETE /v1/voices HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v1/voices HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
]


def is_error(response: httpx.Response) -> bool:
    if response.headers["content-type"] != "application/json":
        return False
    error = response.json()["error"]
    shape = set(error) == {"message", "type", "param", "code"} and isinstance(error["message"], str)
    return 400 <= response.status_code < 500 and shape and "\n" not in error["message"]


def test_no_json_that_is_wrong_gets_more_than_an_error(serve):
    running = serve(limits=LIMITS)
    odd = [json.dumps(GOOD | fields).encode() for fields in FIELDS]
    kind = {"Content-Type": "application/json"}
    answers = {body[:80]: httpx.post(running.url + SPEECH, content=body, headers=kind) for body in odd + BODIES}
    assert [(body, a.status_code, a.text[:200]) for body, a in answers.items() if not is_error(a)] == []
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/json; charset=x",
    ):
        answer = httpx.post(running.url + SPEECH, content=b"{}", headers={"Content-Type": kind})
        assert is_error(answer), kind
    assert httpx.post(running.url + SPEECH, json=GOOD).status_code == 200  # it still serves
    assert not running.failures


@pytest.mark.parametrize("raw", RAW)
def test_no_bytes_that_are_no_request_get_more_than_an_error(serve, raw):
    running = serve(limits=LIMITS)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(raw)
        answer = b""
        while b"}}" not in answer and (more := connection.recv(65_536)):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    assert 400 <= int(head.split()[1]) < 500 and body.startswith(b'{"error"')
    assert not running.failures


def test_connections_that_are_cut_leave_nothing(serve):
    running = serve(limits=LIMITS)
    body = json.dumps(GOOD | {"input": "Hello there. " * 30}).encode()
    head = b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for count in (0, 1, 20, len(head), len(whole) - 10, len(whole)):
        for hard in (False, True):
            connection = socket.create_connection(("127.0.0.1", running.port))
            if hard:  # a reset in place of an end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            connection.sendall(whole[:count])
            if count == len(whole) and not hard:
                connection.recv(100)
            connection.close()
    until(lambda: httpx.get(f"{running.url}/healthz").json()["waiting"] == 0)
    assert httpx.post(running.url + SPEECH, json=GOOD, timeout=60).status_code == 200
    assert not running.failures


def test_no_form_that_is_wrong_gets_more_than_an_error(serve, tmp_path):
    running = serve(limits=LIMITS)
    good = {"name": "ben", "consent": "Ben agreed"}
    clip, before = ("file", ("a.wav", CLIP)), sorted(p.name for p in tmp_path.rglob("*"))
    wrong = [
        (good, []),
        (good, [("file", ("a.wav", b""))]),
        (good, [("file", ("a.wav", b"RIFF" + b"\xff" * 500))]),
        (good, [("file", ("../../a.wav", b"no sound"))]),
        (good, [clip] * 3),  # too big
        (good, [("file", ("a", b"x"))] * 30),
        (good | {"file": "text"}, [("other", ("a.wav", CLIP))]),
        (good | {"consent": "c" * 1001}, [clip]),
        (good | {"consent": ["yes", "yes"]}, [clip]),
        *(
            (good | {"name": n}, [clip])
            for n in ("", "../x", "a/b", ".hidden", "a\0b", "ä", "n" * 65, "nul", "~", "ANN")
        ),
    ]
    for path in ("/v1/voices", "/v1/diarize"):
        for data, files in wrong[: None if path == "/v1/voices" else 6]:
            answer = httpx.post(running.url + path, data=data, files=files or {"x": ("x", b"x")}, timeout=30)
            assert is_error(answer) or answer.status_code == 501, (path, data, answer.status_code, answer.text)
        for kind in ("multipart/form-data", "multipart/form-data; boundary=a", "application/json", "x" * 1000):
            answer = httpx.post(running.url + path, content=b"--a\r\nbroken", headers={"Content-Type": kind})
            assert is_error(answer), (kind, answer.text)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before and not running.failures
