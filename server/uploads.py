"""The routes that take recordings: voices and diarization."""

from __future__ import annotations

import json
from collections.abc import Iterator

import utils  # isort: skip # noqa: F401 (before torch: how its threads wait)
from fastapi import FastAPI, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response

from diarization.turns import to_rttm
from server.answers import JobAnswer
from server.errors import ApiError
from server.limits import Limits
from server.state import Server
from server.worker import Worker
from utils.audio.io import read
from utils.errors import CloningError
from utils.library import TakenError
from utils.times import rttm_field

_NO = ("", "no", "false", "0", "none", "null")


def add_voice_route(app: FastAPI, server: Server, worker: Worker) -> None:
    """POST /v1/voices: make a voice of recordings, and keep it under a name."""

    @app.post("/v1/voices")
    async def add_voice(request: Request) -> Response:
        form = await _form(request, server.limits)
        name, consent, note = (_text(form, field) for field in ("name", "consent", "note"))
        if consent.lower() in _NO:
            what = "consent: say who agreed to the use of this voice, and when; without that none is kept"
            raise ApiError(400, what, param="consent", code="consent_required")
        files = await _files(form, "file", server.limits.references)
        if not files:
            raise ApiError(400, "file: give at least one recording of the voice", param="file")
        try:
            server.library.require_free(name)
        except CloningError as error:
            raise ApiError(409 if isinstance(error, TakenError) else 400, str(error), param="name") from error

        def work() -> Iterator[bytes]:
            clips = [read(clip, sample_rate=None, max_seconds=server.limits.reference_seconds) for clip in files]
            voice = server.cloner.embed_voice(clips)
            server.library.save(name, voice, note=note, consent=consent)
            yield json.dumps({"id": name, "object": "voice", "notes": list(voice.notes)}).encode()

        return JobAnswer(worker.submit(work), "application/json", 201, param="file")


def add_diarize_route(app: FastAPI, server: Server, worker: Worker) -> None:
    """POST /v1/diarize: who speaks when in a recording."""

    @app.post("/v1/diarize")
    async def diarize(request: Request) -> Response:
        form = await _form(request, server.limits)
        speakers, kind = _text(form, "speakers") or "auto", _text(form, "response_format") or "json"
        if kind not in ("json", "rttm"):
            raise ApiError(400, f"response_format is {kind!r}: json or rttm is wanted", param="response_format")
        if speakers != "auto" and not (speakers.isascii() and speakers.isdecimal() and 1 <= int(speakers[:3]) <= 50):
            raise ApiError(400, f"speakers is {speakers[:20]!r}: 1 to 50 or auto is wanted", param="speakers")
        recordings = await _files(form, "file", 1)
        if not recordings:
            raise ApiError(400, "file: give a recording", param="file")
        names = [str(value).strip() for value in form.getlist("names")]
        clips = await _files(form, "references", server.limits.references)
        fit = len(names) == len(clips) == len(set(map(rttm_field, names))) and all(
            name and name.isprintable() and len(name) <= 60 for name in names
        )
        if not fit:
            raise ApiError(
                400, "names: one of its own, of at most 60 characters, for each of references", param="names"
            )
        if (diarizer := server.diarizer) is None:
            raise ApiError(501, "diarization is off (no diarization.json, or a package is missing): see the log")

        def work() -> Iterator[bytes]:
            heard = read(recordings[0], max_seconds=server.limits.audio_seconds)
            known = {name: [clip] for name, clip in zip(names, clips, strict=True)}
            result = diarizer.diarize(heard, known, None if speakers == "auto" else int(speakers))
            text = to_rttm(result.turns, "recording") if kind == "rttm" else json.dumps(result.as_json())
            yield text.encode() or b"\n"

        media = "text/plain; charset=utf-8" if kind == "rttm" else "application/json"
        return JobAnswer(worker.submit(work), media, param="file")


async def _form(request: Request, limits: Limits) -> FormData:
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(400, "the body must be multipart/form-data, with the recordings as files")
    most = 2 * limits.references + 4
    return await request.form(max_files=most, max_fields=most, max_part_size=2**16)


def _text(form: FormData, name: str) -> str:
    """A field of a form, "" where there is none. Raises ApiError: given twice, a file, or too long."""
    values = form.getlist(name)
    if len(values) > 1 or any(not isinstance(value, str) or len(value) > 1000 for value in values):
        raise ApiError(400, f"{name}: one text of at most 1000 characters is wanted", param=name)
    return str(values[0]).strip() if values else ""


async def _files(form: FormData, name: str, most: int) -> list[bytes]:
    values = form.getlist(name)
    if len(values) > most or any(not isinstance(value, UploadFile) for value in values):
        raise ApiError(400, f"{name}: files are wanted, at most {most}", param=name)
    return [await value.read() for value in values if isinstance(value, UploadFile)]
