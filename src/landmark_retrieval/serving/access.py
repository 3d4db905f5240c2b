"""Who may ask: a token, requests of this site only, and the headers that every answer carries."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landmark_retrieval.errors import LandmarkRetrievalError

OPEN = ("/health", "/ready")
"""Addresses that need no token: what starts and watches the service asks them."""

SHORTEST_TOKEN = 16

PAGE_POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
DOCS_POLICY = "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
"""The page of the documentation starts its script from within itself."""


def read_token(file: str | Path) -> str:
    """Return the token that a file holds.

    Raises:
        LandmarkRetrievalError: it cannot be read, or holds no token that is hard to guess.
    """
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise LandmarkRetrievalError(f"{file}: the token cannot be read ({reason})") from None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise LandmarkRetrievalError(
            f"{file}: a token is one word of at least {SHORTEST_TOKEN} characters; "
            "`openssl rand -hex 32` prints one"
        )
    return token


class Guard:
    """Middleware that lets in who may ask, and adds the headers of every answer.

    A browser sends what it knows of a service with requests that other pages make, so a request that changes
    something must come from the service's own pages (or from no page at all).

    Args:
        app: that is guarded.
        token: that requests must carry, as `Authorization: Bearer TOKEN` or as the password of HTTP's basic
            log-in, which browsers ask for; None for none.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                docs = scope["path"].startswith("/docs")
                headers["content-security-policy"] = DOCS_POLICY if docs else PAGE_POLICY
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
            await send(message)

        headers = Headers(scope=scope)
        if self.token is not None and scope["path"] not in OPEN and not self._knows(headers):
            challenge = {"www-authenticate": 'Basic realm="landmark retrieval"'}
            refusal = JSONResponse({"detail": "this service asks for its token"}, 401, challenge)
            await refusal(scope, receive, with_headers)
        elif scope["method"] not in ("GET", "HEAD") and not _of_this_site(headers):
            refusal = JSONResponse({"detail": "requests of other sites are refused"}, 403)
            await refusal(scope, receive, with_headers)
        else:
            await self.app(scope, receive, with_headers)

    def _knows(self, headers: Headers) -> bool:
        """Tell whether a request carries the token."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode("ascii").partition(":")[2]
            except (binascii.Error, ValueError):
                return False
        elif kind.lower() != "bearer":
            return False
        assert self.token is not None
        return hmac.compare_digest(given.strip().encode(), self.token.encode())


def _of_this_site(headers: Headers) -> bool:
    """Tell whether a request comes from a page of the service itself, or from no page."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    return urlsplit(origin).netloc == headers.get("host")


def allowed_hosts(host: str, loopback: Sequence[str]) -> tuple[str, ...]:
    """Return the names by which requests may call the service (against DNS rebinding); `*` for any."""
    return ("127.0.0.1", "localhost", "[::1]") if host in loopback else ("*",)
