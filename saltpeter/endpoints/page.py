"""The web page: the files below `saltpeter/web`, read once and served from memory beside the control socket."""

from __future__ import annotations

import hashlib
from pathlib import Path

import attrs

from saltpeter.endpoints.http import Request, Response, Routes

FOLDER = Path(__file__).parent.parent / "web"
PREFIX = "/web/"  # of every file but the page itself, which is at /
INDEX = "index.html"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Scripts, styles and connections of this very origin, and nothing else: no inline script, no eval, no frames, and no
# string that becomes markup (Trusted Types, with no policy that could make one).
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

HEADERS = (
    ("Cache-Control", "no-cache"),  # kept, and asked for again each time: a new daemon brings a new page
    ("Content-Security-Policy", POLICY),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


def routes(folder: Path = FOLDER) -> Routes:
    """Where each of the page's files is served. Reads them all; raises OSError if `folder` has no page."""
    index = _File.read(folder / INDEX)
    files = {path: _File.read(path) for path in folder.rglob("*") if path.suffix in TYPES}
    assets = {("GET", PREFIX + path.relative_to(folder).as_posix()): file.answer for path, file in files.items()}
    return {**assets, ("GET", "/"): index.answer}


@attrs.frozen
class _File:
    content: bytes
    type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> _File:
        content = path.read_bytes()
        return cls(content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    async def answer(self, request: Request) -> Response:
        headers = (*HEADERS, ("ETag", self.etag))
        if has_it(self.etag, request.headers.get("if-none-match", "")):
            return Response(304, content_type=self.type, headers=headers)
        return Response(200, self.content, self.type, headers)


def has_it(etag: str, if_none_match: str) -> bool:
    """Whether a client that sent this `If-None-Match` has what `etag` stands for."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
