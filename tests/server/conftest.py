"""A server with tiny models, in a thread of this process."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

import pytest
import uvicorn

from server.app import create_app
from server.limits import Limits
from server.listening import Protocol, listen
from server.state import Server
from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from utils.library import Library
from voice_cloner import VoiceCloner

CLIP = (ROOT / "samples" / "austen_0890.wav").read_bytes()


@dataclass
class Running:
    """A server that listens; `failures` are what its log has of tracebacks."""

    port: int
    server: Server
    guard: object
    failures: list[logging.LogRecord] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Collect(logging.Handler):
    def __init__(self, into: list[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self.into = into

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or "Traceback" in record.getMessage():
            self.into.append(record)


@pytest.fixture(scope="session")
def cloner(tmp_path_factory):
    return VoiceCloner.load(save_tiny_models(tmp_path_factory.mktemp("models")), device="cpu")


@pytest.fixture
def serve(cloner, tmp_path):
    """serve(limits=..., token=...) -> Running; all end with the test."""
    library = Library(tmp_path / "voices", shipped=None)
    library.save("ann", cloner.embed_voice(CLIP), consent="Ann agreed")
    started, loggers = [], [logging.getLogger(name) for name in ("uvicorn.error", "server", "asyncio")]

    def start(**settings) -> Running:
        sock = listen("127.0.0.1", 0)
        state = Server(cloner, library, aliases={"alloy": "ann"}, **({"limits": Limits()} | settings))
        app = create_app(state)
        running = Running(sock.getsockname()[1], state, app)
        config = uvicorn.Config(app, http=Protocol, ws="none", log_config=None, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: server.run(sockets=[sock]))
        thread.start()
        handler = _Collect(running.failures)
        for logger in loggers:
            logger.addHandler(handler)
        started.append((server, thread, handler))
        until(lambda: server.started)
        return running

    yield start
    for server, thread, handler in started:
        server.should_exit = True
        thread.join(20)
        for logger in loggers:
            logger.removeHandler(handler)
        assert not thread.is_alive()


def until(what, seconds: float = 20.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)
