"""What stands before every request: who may ask, from where, and how much may come."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from server.errors import ApiError
from server.limits import Limits

Receive = Callable[[], Any]
LOCAL = ("localhost", "127.0.0.1", "::1")
OPEN = ("/healthz",)  # without a token
UPLOADS = ("/v1/voices", "/v1/diarize")


class Guard:
    """An ASGI application around another. Bodies are read whole, within bounds, before the other sees a request.

    token: what clients must send (`Authorization: Bearer TOKEN`). Without one, the server is this machine's: pages of
    other origins and other names of the host are refused, so that no web page can use it from the browser.
    """

    def __init__(self, app: Any, limits: Limits, token: str = "", count: Callable[[str, int], None] | None = None):
        """count: told the path and the status of each answer."""
        self.app, self.limits, self.token = app, limits, token
        self.count = count or (lambda path, status: None)
        self._uploads = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Any) -> None:
        """Answer one request, or give it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.count(scope["path"], message["status"])
            await send(message)

        upload = scope["method"] == "POST" and scope["path"] in UPLOADS
        self._uploads += upload
        try:
            headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
            self._admit(scope["path"], headers, upload)
            body = await self._body(receive, headers, upload)
            if body is None:
                return
            await self.app(scope, _replayed(body, receive), counted)
        except ApiError as error:
            await error.response()(scope, receive, counted)
        finally:
            self._uploads -= upload

    def _admit(self, path: str, headers: dict[bytes, str], upload: bool) -> None:
        if self.token:
            kind, _, given = headers.get(b"authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode("latin-1"), self.token.encode())
            if path not in OPEN and not (kind.lower() == "bearer" and right):
                raise ApiError(401, "a valid token is wanted: Authorization: Bearer TOKEN", code="invalid_api_key")
        elif _host(headers.get(b"host", "localhost")) not in LOCAL:
            raise ApiError(403, "this server answers to localhost only: for other names it needs a token")
        elif (origin := headers.get(b"origin")) and (urlsplit(origin).hostname or "") not in LOCAL:
            raise ApiError(403, "pages of other sites may not use this server")
        if upload and self._uploads > self.limits.uploads:
            raise ApiError(429, f"{self.limits.uploads} uploads come already: try again", retry_after=2)

    async def _body(self, receive: Receive, headers: dict[bytes, str], upload: bool) -> bytes | None:
        """The whole body; None when the client is gone."""
        most = self.limits.upload_bytes if upload else self.limits.json_bytes
        too_big = ApiError(413, f"the body is too big: at most {most} bytes are taken", code="body_too_large")
        length = headers.get(b"content-length", "0")
        if not length.isascii() or not length.isdecimal() or len(length) > 15 or int(length) > most:
            raise too_big
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_big
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            what = f"the body did not come within {self.limits.body_seconds:g} s"
            raise ApiError(408, what, code="timeout") from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body was read already."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return waiting.pop() if waiting else await receive()

    return replay


def _host(header: str) -> str:
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""
