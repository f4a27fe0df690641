"""Who may use the gateway: API keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Final

from gateway.errors import INVALID, Problem

OPEN_PATHS: Final = frozenset({"/", "/health"})
"""What anybody may read. Without a key, it says no more than that a gateway is here and whether a model answers."""


class ApiKeys:
    """A set of keys; without any, everybody is let in."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows one of the keys, or none is asked for.

        Keys come as ``Authorization: Bearer …`` or ``x-api-key``. Each is compared with all known ones in a time that
        depends neither on which one matches nor on how much of it does.
        """
        if not self._digests:
            return True
        digest = _digest(_shown(headers))
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    def refuse(self, path: str, headers: Mapping[str, str]) -> Problem | None:
        """The problem of a request without a right key; None lets it in."""
        if path in OPEN_PATHS or self.admits(headers):
            return None
        message = "No API key provided: send 'Authorization: Bearer KEY'."
        if _shown(headers):
            message = "Incorrect API key provided."
        return Problem(401, INVALID, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def _shown(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
