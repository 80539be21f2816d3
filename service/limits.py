"""A limit on request bodies, counted as they arrive."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimit"]


class BodyLimit:
    """ASGI middleware: reading a body of more than `most` bytes raises a 413.

    `most_of` names calls, as method and path, with a limit of their own.
    """

    def __init__(self, app: ASGIApp, most: int, most_of: Mapping[tuple[str, str], int]) -> None:
        self.app = app
        self.most = most
        self.most_of = most_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        most = self.most_of.get((scope["method"], path), self.most)
        said = Headers(scope=scope).get("content-length", "")
        too_large_as_said = said.isdecimal() and int(said[:20]) > most
        seen = 0

        async def receive_within() -> Message:
            nonlocal seen
            if too_large_as_said:
                raise _too_large(f"is {said[:20]} bytes", most)
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise _too_large("is larger", most)
            return message

        await self.app(scope, receive_within, send)


def _too_large(what: str, most: int) -> HTTPException:
    return HTTPException(413, f"the body {what}; at most {most} bytes are accepted")
