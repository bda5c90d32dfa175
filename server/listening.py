"""The socket and what speaks HTTP on it: connections that say nothing, or take nothing, do not stay."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.errors import ApiError
from utils.errors import CloningError

HEAD_SECONDS = 20.0  # in which the head of a first request must have come
_UNTAKEN_MS = 60_000  # after which a connection ends whose other side takes nothing


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises CloningError: no such address here, or it is taken."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise CloningError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another port") from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNTAKEN_MS)
    return sock


class Protocol(H11Protocol):
    """uvicorn's, with a bound on the time before a request, and refusals in JSON."""

    def connection_made(self, transport: Any) -> None:
        """Wait for a request, but not for ever."""
        super().connection_made(transport)
        self.loop.call_later(HEAD_SECONDS, self._close_if_silent, transport)

    def _close_if_silent(self, transport: asyncio.Transport) -> None:
        if self.cycle is None and not transport.is_closing():
            transport.close()

    def send_400_response(self, msg: str) -> None:
        """The answer to what is no HTTP."""
        body = ApiError(400, msg).body()
        head = [
            (b"content-type", b"application/json"),
            (b"connection", b"close"),
            (b"content-length", b"%d" % len(body)),
        ]
        for event in (
            h11.Response(status_code=400, headers=head, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
