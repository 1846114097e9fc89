"""Pagination tokens: where the next page begins and how long it is. Opaque to clients, and checked when they return."""

from __future__ import annotations

import base64
import binascii

import msgspec

from pinyon.errors import InvalidRequest

PARAM = ("pagination_token",)
_POSITION = msgspec.json.Decoder(tuple[str, int])


def make_token(after: str, limit: int) -> str:
    """For the page of `limit` behind the name or id `after`."""
    return base64.urlsafe_b64encode(msgspec.json.encode((after, limit))).decode("ascii")


def read_token(token: str | None, limit: int | None, *, default: int, highest: int) -> tuple[str | None, int]:
    """Where the page begins (None: at the start) and how long it is: `limit` if given, else as the token says.

    Raises InvalidRequest.
    """
    after = None
    if token:
        try:
            after, remembered = _POSITION.decode(base64.b64decode(token.encode(), b"-_", validate=True))
        except (msgspec.DecodeError, binascii.Error, ValueError):
            raise InvalidRequest("is not a token that this server gave", PARAM) from None
        if not 1 <= remembered <= highest:
            raise InvalidRequest("is not a token that this server gave for this listing", PARAM)
        default = remembered
    if limit is None:
        return after, default
    if not 1 <= limit <= highest:
        raise InvalidRequest(f"must be between 1 and {highest}", ("limit",))
    return after, limit
