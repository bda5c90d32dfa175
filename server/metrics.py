"""What Prometheus may ask a server."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from server.worker import Worker
from utils.audio.io import Waveform

KNOWN = ("/v1/audio/speech", "/v1/voices", "/v1/diarize", "/v1/models", "/healthz", "/metrics")
_BOUNDS = (0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Metrics:
    """Requests by path and status, jobs that wait and run, seconds of speech and of work, time to the first sound."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("voice_requests", "Answers", ["path", "status"], registry=registry)
        self._audio = Counter("voice_audio_seconds", "Seconds of speech made", registry=registry)
        self._first = Histogram(
            "voice_first_sound_seconds", "From a request to its first sound", buckets=_BOUNDS, registry=registry
        )
        for name, what, value in (
            ("voice_jobs_waiting", "Jobs that wait", lambda: worker.waiting),
            ("voice_jobs_running", "Jobs at work", lambda: int(worker.running is not None)),
            ("voice_work_seconds", "Seconds spent at work", lambda: worker.busy_seconds),
        ):
            Gauge(name, what, registry=registry).set_function(value)

    def answered(self, path: str, status: int) -> None:
        """Count an answer; paths that are none of ours are counted as one."""
        self._requests.labels(path if path in KNOWN else "other", str(status)).inc()

    def timed(self, pieces: Iterable[Waveform], came: float) -> Iterator[Waveform]:
        """`pieces`, counted; came: when they were asked for, by time.monotonic."""
        for index, piece in enumerate(pieces):
            if index == 0:
                self._first.observe(time.monotonic() - came)
            self._audio.inc(piece.seconds)
            yield piece

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self._registry)
