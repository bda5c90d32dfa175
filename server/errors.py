"""Errors in the shape that OpenAI's clients read."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

from utils.errors import printable


class ApiError(Exception):
    """What a client is told: HTTP status, one line, the field that is wrong, a code that programs can ask for."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, printable(message), param, code
        self.headers: Mapping[str, str] = {"Retry-After": str(retry_after)} if retry_after else {}

    def body(self) -> bytes:
        """The JSON of it."""
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()

    def response(self) -> Response:
        """The answer to a request."""
        return Response(self.body(), self.status, headers=dict(self.headers), media_type="application/json")
