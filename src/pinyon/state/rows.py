"""What tables share: text that a database keeps, an index's settings as JSON values, ids that tell a row's place."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from pinyon.errors import InvalidRequest
from pinyon.state.records import Byoc, Dedicated, Deployment, Embed, IndexSettings, Pod, Serverless, VectorType
from pinyon.types import Metric

_DEPLOYMENTS: dict[str, type[Deployment]] = {"serverless": Serverless, "pod": Pod, "byoc": Byoc}
_KINDS = {deployment: kind for kind, deployment in _DEPLOYMENTS.items()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def is_storable(text: str) -> bool:
    """PostgreSQL keeps no NUL, and nobody keeps half a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def check_texts(record: object, *params: str) -> None:
    """Raises InvalidRequest for the first of these fields that holds text which no database keeps."""
    for param in params:
        text = getattr(record, param)
        if text is not None and not is_storable(text):
            raise InvalidRequest("must be Unicode text without NUL characters", (param,))


def plain_settings(settings: IndexSettings) -> IndexSettings:
    """The settings alone, of a record that has more."""
    return IndexSettings(**{setting.name: getattr(settings, setting.name) for setting in fields(IndexSettings)})


def pack_settings(settings: IndexSettings) -> dict[str, Any]:
    """Every field of the settings, or of the record that they are, as JSON values; times stay what they are."""
    packed: dict[str, Any] = msgspec.to_builtins(settings, builtin_types=(datetime,))
    packed["deployment"] = {"kind": _KINDS[type(settings.deployment)], **packed["deployment"]}
    return packed


def unpack_settings(packed: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `pack_settings`, as keywords. What is no field of IndexSettings is left as it is."""
    values = dict(packed)
    deployment = values["deployment"]
    values["deployment"] = msgspec.convert(deployment, _DEPLOYMENTS[deployment["kind"]])
    values["vector_type"] = VectorType(values["vector_type"])
    values["metric"] = Metric(values["metric"])
    values["read_capacity"] = msgspec.convert(values["read_capacity"], Dedicated | None)
    values["embed"] = msgspec.convert(values["embed"], Embed | None)
    return values


# --- rows in the order of their making -------------------------------------------------------------------------------


def next_moment(connection: sa.Connection, created_at: sa.Column[datetime], now: datetime) -> datetime:
    """`now`, or just behind the newest row's: the clock may stand still or be set back, the order must stay."""
    newest = connection.scalar(sa.select(sa.func.max(created_at)))
    return now if newest is None else max(now, newest + _MICROSECOND)


def make_id(moment: datetime) -> str:
    """A new UUID that holds the moment (version 7), so that a page can begin behind a row that is gone by now."""
    milliseconds, microseconds = divmod((moment - _EPOCH) // _MICROSECOND, 1000)
    bits = milliseconds << 80 | 7 << 76 | microseconds << 64 | 2 << 62 | secrets.randbits(62)
    return str(UUID(int=bits))


def moment_of(id: str) -> datetime:
    """The moment that `make_id` was given. Raises InvalidRequest for what is no id of ours."""
    try:
        bits = UUID(id).int
        return _EPOCH + ((bits >> 80) * 1000 + (bits >> 64 & 0xFFF)) * _MICROSECOND
    except (ValueError, OverflowError):
        raise InvalidRequest("is not a token that this server gave", ("pagination_token",)) from None
