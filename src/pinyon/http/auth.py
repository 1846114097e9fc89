"""Keys: kept as digests, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from pinyon.errors import Unauthenticated


class KeyRing:
    """The keys that open the server. With none configured every key opens it, and so does no key at all."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = tuple({_digest(key) for key in keys})

    def check(self, key: str | None) -> None:
        """Raises Unauthenticated. Takes the same time whichever key matches, and whether or not one does."""
        if not self._digests:
            return
        if key is None:
            raise Unauthenticated("No API key was given")
        given = _digest(key)
        matched = False
        for digest in self._digests:
            matched |= hmac.compare_digest(digest, given)
        if not matched:
            raise Unauthenticated("Invalid API key")


def _digest(key: str) -> bytes:
    # A fast hash is right here: keys are long random strings, not passwords, and every request pays for it.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
