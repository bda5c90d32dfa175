"""The routes: OpenAI's `/v1/audio/speech`, voices, diarization, health and metrics."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import utils  # isort: skip # noqa: F401 (before torch: how its threads wait)
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.responses import Response

from cloning.cloner import speech_options
from cloning.results import file_tags
from server.answers import EventAnswer, JobAnswer, as_api_error
from server.encoding import MEDIA, encoded
from server.errors import ApiError
from server.guard import Guard
from server.metrics import Metrics
from server.state import Server
from server.uploads import add_diarize_route, add_voice_route
from server.worker import Worker
from utils.errors import CloningError
from utils.speech_bounds import RATES

MODEL = "voice-cloning"  # there is one; requests may call it as they like


class VoiceId(BaseModel):
    """OpenAI's other way to name a voice."""

    id: str = Field(max_length=64)


class SpeechRequest(BaseModel):
    """What OpenAI's clients send; `seed` is ours. `instructions` are not followed, `model` may be anything."""

    input: str
    voice: str | VoiceId
    model: str = MODEL
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(1.0, ge=RATES[0], le=RATES[1], allow_inf_nan=False)
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: str | None = None
    seed: int | None = Field(None, strict=True)


def create_app(server: Server) -> Guard:
    """The ASGI application."""
    worker = Worker(server.limits, server.prepare)
    metrics = Metrics(worker)
    MultiPartParser.spool_max_size = server.limits.upload_bytes  # recordings stay in memory

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop()

    app = FastAPI(title="Voice cloning toolkit", docs_url=None, redoc_url=None, lifespan=lifespan)
    _explain_errors(app)
    _plain_routes(app, server, metrics)
    _speech_route(app, server, worker, metrics)
    add_voice_route(app, server, worker)
    add_diarize_route(app, server, worker)
    return Guard(app, server.limits, server.token, metrics.answered)


def _explain_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        names = [str(part) for part in first["loc"] if part not in ("body", "str", "VoiceId")]
        param = names[0][:64] if names and first["type"] != "json_invalid" else None
        what = (
            f"{param}: {first['msg']}" if param else f"the body is not the JSON object that is wanted: {first['msg']}"
        )
        return ApiError(400, what, param=param).response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        what = {404: f"there is no {request.url.path[:100]} here", 405: f"{request.method} is not answered here"}
        return ApiError(error.status_code, what.get(error.status_code, str(error.detail))).response()

    @app.exception_handler(CloningError)
    async def cloning_error(request: Request, error: CloningError) -> Response:
        return as_api_error(error).response()


def _plain_routes(app: FastAPI, server: Server, metrics: Metrics) -> None:
    @app.get("/healthz")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "waiting": metrics.worker.waiting, "models": server.cloner.describe()}

    @app.get("/metrics")
    async def measured() -> Response:
        return Response(metrics.text(), media_type=metrics.media_type)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "local"}]}

    @app.get("/v1/voices")
    def voices() -> dict[str, Any]:
        known = {name: name for name in server.library.names()} | dict(server.aliases)
        return {"object": "list", "data": [{"id": n, "object": "voice", "voice": of} for n, of in known.items()]}


def _speech_route(app: FastAPI, server: Server, worker: Worker, metrics: Metrics) -> None:
    @app.post("/v1/audio/speech")
    async def speech(asked: SpeechRequest) -> Response:
        if not asked.input.strip():
            raise ApiError(400, "input: there is nothing to say", param="input")
        if len(asked.input) > (most := server.limits.characters):
            what = f"input has {len(asked.input)} characters; at most {most} are taken: send it in parts"
            raise ApiError(400, what, param="input", code="string_above_max_length")
        try:
            options = speech_options(seed=asked.seed, rate=asked.speed)  # a random seed where none is asked for
        except CloningError as error:
            raise ApiError(400, str(error), param="seed") from error
        voice = server.voice(asked.voice if isinstance(asked.voice, str) else asked.voice.id)
        came = time.monotonic()

        def work() -> Iterator[bytes]:
            pieces = server.cloner.stream(voice, asked.input, seed=options.seed, rate=options.rate)
            tags = file_tags(options.seed or 0, server.cloner.describe(), server.cloner.watermark)
            return encoded(metrics.timed(pieces, came), asked.response_format, tags)

        job = worker.submit(work)
        if asked.stream_format == "sse":
            return EventAnswer(job, param="input")
        return JobAnswer(job, MEDIA[asked.response_format], param="input")
