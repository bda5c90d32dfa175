"""The answer to a request that the worker makes piece by piece."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response

from server.errors import ApiError
from server.limits import CHUNK
from server.worker import RequestJob
from utils.errors import CloningError

log = logging.getLogger(__name__)


class _GoneError(Exception):
    """Nobody takes the answer."""


class JobAnswer(Response):
    """Sends what a job makes as it is made. An error before the first piece is told in JSON; a later one cuts the
    connection, so that no client takes a part for the whole. When the client goes, so does the job."""

    def __init__(self, job: RequestJob, media_type: str, status: int = 200, param: str | None = None) -> None:
        """param: the field that an error of the work is about."""
        super().__init__(status_code=status, media_type=media_type)
        self.job, self.param = job, param

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application."""
        gone = asyncio.ensure_future(_until_gone(receive))
        begun = False
        try:
            async for piece in self._pieces(gone):
                if not begun:
                    headers = [(k, v) for k, v in self.raw_headers if k != b"content-length"]
                    await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
                    begun = True
                for start in range(0, len(piece), CHUNK):
                    await self._send(send, piece[start : start + CHUNK], more=True)
            await self._send(send, b"", more=False)
        except _GoneError:
            pass
        except Exception as error:  # a fault of ours too: who asks gets an answer, and the server goes on
            if not begun:
                await as_api_error(error, self.param).response()(scope, receive, send)
            elif not isinstance(error, ApiError):
                log.error("cut off: %s: %s", type(error).__name__, error)
        finally:
            gone.cancel()
            self.job.cancel()

    async def _pieces(self, gone: asyncio.Future) -> AsyncIterator[bytes]:
        while True:
            piece = asyncio.ensure_future(self.job.next())
            await asyncio.wait({piece, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                piece.cancel()
                raise _GoneError
            if (made := piece.result()) is None:
                return
            yield self.framed(made)

    async def _send(self, send: Any, data: bytes, more: bool) -> None:
        message = {"type": "http.response.body", "body": data, "more_body": more}
        try:
            await asyncio.wait_for(send(message), self.job.limits.stall_seconds)
        except TimeoutError:
            raise _GoneError from None

    def framed(self, piece: bytes) -> bytes:
        """What goes over the line for a piece."""
        return piece


class EventAnswer(JobAnswer):
    """The same as server-sent events, as OpenAI's `stream_format: sse` has them."""

    def __init__(self, job: RequestJob, param: str | None = None) -> None:
        super().__init__(job, "text/event-stream", param=param)

    async def _pieces(self, gone: asyncio.Future) -> AsyncIterator[bytes]:
        async for piece in super()._pieces(gone):
            yield piece
        usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        yield _event({"type": "speech.audio.done", "usage": usage})

    def framed(self, piece: bytes) -> bytes:
        """A delta with the piece in base64."""
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})


def as_api_error(error: Exception, param: str | None = None) -> ApiError:
    """What a client is told of an error; what nobody expected goes to the log with its traceback."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, CloningError):
        return ApiError(400, str(error), param=param)
    if isinstance(error, MemoryError):
        return ApiError(503, "there is not enough memory for this: give a shorter text or recording", retry_after=5)
    log.error("error in a request", exc_info=error)
    return ApiError(500, "something went wrong that should not have; the server's log says more")


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


async def _until_gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
