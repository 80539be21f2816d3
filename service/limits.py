"""A limit on request bodies, counted as they arrive."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimit"]


class BodyLimit:
    """ASGI middleware: reading a body of more than `most` bytes raises a 413."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "")
        too_large_as_said = said.isdecimal() and int(said[:20]) > self.most
        seen = 0

        async def receive_within() -> Message:
            nonlocal seen
            if too_large_as_said:
                raise self._too_large(f"is {said[:20]} bytes")
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise self._too_large("is larger")
            return message

        await self.app(scope, receive_within, send)

    def _too_large(self, what: str) -> HTTPException:
        return HTTPException(413, f"the body {what}; at most {self.most} bytes are accepted")
