"""Who may use the service: who has the token; without one, programs of this machine alone, and no web page."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from pathlib import Path

from fastapi import HTTPException, Request

from ibft.errors import UserError

__all__ = ["Access", "is_loopback", "read_token"]

_MIN_TOKEN_CHARACTERS = 16


def is_loopback(host: str) -> bool:
    """Decide whether an address or name can be reached from this machine alone."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def read_token(host: str, path: Path | None, environment: str | None) -> str | None:
    """Return the token: that of a file, else that of the environment.

    Raises:
        UserError: the file cannot be read, the token is short, or there is none and others can reach the host.
    """
    try:
        token = path.read_text(encoding="utf-8").strip() if path is not None else environment
    except OSError as error:
        raise UserError(f"--token-file {path}: {error.strerror}.") from None
    if token is None and not is_loopback(host):
        raise UserError(
            f"serve: --host {host} lets other machines run programs on this one. Give a --token-file (or IBFT_TOKEN), "
            "or leave out --host."
        )
    if token is not None and (len(token) < _MIN_TOKEN_CHARACTERS or not token.isascii()):
        raise UserError(
            f"serve: a token has at least {_MIN_TOKEN_CHARACTERS} ASCII characters. "
            "Make one with `openssl rand -hex 32`."
        )
    return token


class Access:
    """Lets a request through, or refuses it (a dependency of every route that does anything)."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: Request) -> None:
        """Check a request.

        Raises:
            HTTPException: 401 without the right token; 403 for what a web page may have sent.
        """
        if self._token is None:
            # A page in a browser of this machine can send requests here. It cannot do so without naming its origin,
            # and where it has made its own name point here, that name is the host's.
            if "origin" in request.headers or not is_loopback(request.url.hostname or ""):
                raise HTTPException(403, "without a token, only programs of this machine are served")
        elif not hmac.compare_digest(_token_of(request.headers.get("authorization", "")), self._token.encode()):
            raise HTTPException(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})


def _token_of(header: str) -> bytes:
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip().encode()
    if kind.lower() == "basic":  # http://token:TOKEN@host/run_code, for clients that know no other way
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
