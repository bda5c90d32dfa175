"""One thread that does all the work, in order; what it makes goes piece by piece to those who wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from server.errors import ApiError
from server.limits import Limits
from utils.errors import reported

Work = Callable[[], Iterator[bytes]]
_END = None
_SHARE = 0.2  # of the newest in the running mean of seconds


class RequestJob:
    """A request's work. `next` gives its pieces as they are made; `cancel` frees its place, whatever its state."""

    def __init__(self, worker: Worker, work: Work, limits: Limits) -> None:
        self.worker, self.work, self.limits = worker, work, limits
        self.loop = asyncio.get_running_loop()
        self.pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.deadline = time.monotonic() + limits.seconds
        self.cancelled = False
        self.unsent = 0

    async def next(self) -> bytes | None:
        """The next piece, None at the end. Raises what the work raised; ApiError when its time is up."""
        left = self.deadline - time.monotonic()
        try:
            piece = await asyncio.wait_for(self.pieces.get(), max(0.0, left))
        except TimeoutError:
            self.cancel()
            raise self._late() from None
        if isinstance(piece, Exception):
            raise piece
        self.unsent -= len(piece or b"")
        return piece

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.cancelled = True
        self.worker.forget(self)

    def _late(self) -> ApiError:
        message = f"not done within {self.limits.seconds:g} s: give a shorter text, or try again later"
        return ApiError(503, message, code="timeout", retry_after=self.worker.wait_seconds())

    def run(self) -> None:
        """In the worker's thread: make the pieces, until all are there or nobody wants them."""
        with reported(self._put):  # raised again where the answer is sent
            for piece in self.work():
                if time.monotonic() > self.deadline:
                    self._put(self._late())
                    return
                self.unsent += len(piece)
                if self.cancelled or self.unsent > self.limits.unsent_bytes:
                    self._put(ApiError(503, "the answer is not taken: try again"))
                    return
                if piece:
                    self._put(piece)
            self._put(_END)

    def _put(self, piece: bytes | Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)


class Worker:
    """Runs jobs one after the other; refuses more than may wait."""

    def __init__(self, limits: Limits, prepare: Callable[[], Any] = lambda: None) -> None:
        """prepare: called once in the thread, before the first job."""
        self.limits = limits
        self.busy_seconds = 0.0
        self.running: RequestJob | None = None
        self._mean = 1.0
        self._waiting: deque[RequestJob] = deque()
        self._change = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, args=(prepare,), name="worker", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End after the job at work, without those that wait."""
        with self._change:
            self._stopped = True
            self._change.notify()

    @property
    def waiting(self) -> int:
        """Jobs that wait for their turn."""
        return len(self._waiting)

    def submit(self, work: Work) -> RequestJob:
        """Queue some work. Raises ApiError 429 when as many wait as may."""
        job = RequestJob(self, work, self.limits)
        with self._change:
            full = len(self._waiting) >= self.limits.waiting
            if not full:
                self._waiting.append(job)
                self._change.notify()
        if full:
            raise ApiError(
                429, f"{self.limits.waiting} requests wait already: try again later", code="queue_full",
                retry_after=self.wait_seconds(),
            )  # fmt: skip
        return job

    def forget(self, job: RequestJob) -> None:
        """Take a job out of the queue, if it is still there."""
        with self._change, contextlib.suppress(ValueError):
            self._waiting.remove(job)

    def wait_seconds(self) -> int:
        """About how long until half of those that wait have been served: 1 to 120."""
        return min(120, max(1, math.ceil(self._mean * (1 + len(self._waiting)) / 2)))

    def _run(self, prepare: Callable[[], Any]) -> None:
        prepare()
        while True:
            with self._change:
                while not self._waiting and not self._stopped:
                    self._change.wait()
                if self._stopped:
                    return
                self.running = job = self._waiting.popleft()
            started = time.monotonic()
            job.run()
            seconds = time.monotonic() - started
            self.running = None
            self.busy_seconds += seconds
            self._mean += _SHARE * (seconds - self._mean)
