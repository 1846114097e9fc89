"""The metadata filter: its tree, the parser of its JSON form, and `matches`, which says what each filter means.

Stores translate the tree into what they search with; `matches` is the reference that they are tested against.

To Python True == 1.0, so Eq("f", True) == Eq("f", 1.0), though they match different records: no cache by filter.
Strings are equal by code point, never normalised: "é" of one code point is not "é" of two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pinyon.errors import InvalidRequest, Param

# What a field is compared with. Numbers are 64-bit floats, as on the wire.
Scalar: TypeAlias = str | float | bool

# NOTE: 10,000 values an operator: Pinecone's guide "Filter by metadata". The other bounds are ours: they keep one
# request from costing what a thousand do, and recursion far from the interpreter's limit.
MAX_LIST = 10_000
MAX_VALUES = 100_000
MAX_CONDITIONS = 10_000
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class And:
    """Every part matches; so without parts, everything does."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part matches."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Eq:
    """The field is this value, or a list with it."""

    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Ne:
    """The field is there, and Eq does not match."""

    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Gt:
    """The field is a number above this one."""

    field: str
    value: float


@dataclass(frozen=True, slots=True)
class Gte:
    field: str
    value: float


@dataclass(frozen=True, slots=True)
class Lt:
    field: str
    value: float


@dataclass(frozen=True, slots=True)
class Lte:
    field: str
    value: float


@dataclass(frozen=True, slots=True)
class In:
    """The field is one of these values, or a list with one of them."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Nin:
    """The field is there, and In does not match."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there, with any value, the empty list included; or with `exists` False, it is not."""

    field: str
    exists: bool


Filter: TypeAlias = And | Or | Eq | Ne | Gt | Gte | Lt | Lte | In | Nin | Exists

_EQUALITIES: dict[str, type[Eq | Ne]] = {"$eq": Eq, "$ne": Ne}
_ORDERINGS: dict[str, type[Gt | Gte | Lt | Lte]] = {"$gt": Gt, "$gte": Gte, "$lt": Lt, "$lte": Lte}
_MEMBERSHIPS: dict[str, type[In | Nin]] = {"$in": In, "$nin": Nin}
_COMPARISONS = {*_EQUALITIES, *_ORDERINGS, *_MEMBERSHIPS, "$exists"}
_GROUPS: dict[str, type[And | Or]] = {"$and": And, "$or": Or}


def matches(filter: Filter, metadata: Mapping[str, object]) -> bool:
    """Whether a record with this metadata is what the filter asks for.

    A string, a number and a boolean are never equal to each other, and only numbers have an order: what is compared
    with a value of another type does not match (so it does match Ne and Nin).

    NOTE: that Ne and Nin need the field, and that a list matches on any element, is Pinecone's ("Filter by metadata").
    What Ne and Nin make of a list it leaves open. Here they are the opposite of Eq and In among the records that have
    the field, as in MongoDB, whose operators these are: no element may be equal.
    """
    match filter:
        case And(parts):
            return all(matches(part, metadata) for part in parts)
        case Or(parts):
            return any(matches(part, metadata) for part in parts)
        case Exists(field, exists):
            return (field in metadata) is exists
    if filter.field not in metadata:
        return False
    found = metadata[filter.field]
    match filter:
        case Eq(_, value):
            return _holds(found, (value,))
        case Ne(_, value):
            return not _holds(found, (value,))
        case In(_, values):
            return _holds(found, values)
        case Nin(_, values):
            return not _holds(found, values)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    number = float(found)
    match filter:
        case Gt(_, bound):
            return number > bound
        case Gte(_, bound):
            return number >= bound
        case Lt(_, bound):
            return number < bound
        case Lte(_, bound):
            return number <= bound


def _holds(found: object, wanted: tuple[Scalar, ...]) -> bool:
    elements = found if isinstance(found, list | tuple) else (found,)
    return any(_same(element, value) for element in elements for value in wanted)


def _same(found: object, wanted: Scalar) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return float(found) == float(wanted)
    return found == wanted


def parse(value: object, param: Param = ("filter",)) -> Filter:
    """The filter that a JSON value, already decoded, says.

    Several keys of an object are an implicit AND, and so are several operators of a field. An empty object at the top
    is And(()), which matches everything: where a vendor refuses it, its dialect does. Raises InvalidRequest with the
    path of the part at fault, `param` first.
    """
    if isinstance(value, dict) and not value:
        return And(())
    return _Parser(param).group(value, param, 1)


class _Parser:
    """One run of `parse`: counts what it meets, so that the whole is bounded."""

    def __init__(self, root: Param) -> None:
        self.root = root
        self.conditions = 0
        self.values = 0

    def group(self, value: object, path: Param, depth: int) -> Filter:
        if not isinstance(value, dict):
            raise InvalidRequest("must be an object", path)
        if not value:
            raise InvalidRequest("must not be empty", path)
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"must not be nested more than {MAX_DEPTH} deep", self.root)
        self._count()
        return _all_of([self._member(key, operand, path, depth) for key, operand in value.items()])

    def _member(self, key: object, operand: object, path: Param, depth: int) -> Filter:
        """One key of an object of conditions: `$and`, `$or`, or a field."""
        if not isinstance(key, str):
            raise InvalidRequest("must have strings for keys", path)
        path = (*path, key)
        if key in _GROUPS:
            if not isinstance(operand, list) or not operand:
                raise InvalidRequest("must be a list of at least one object", path)
            return _GROUPS[key](
                tuple(self.group(part, (*path, position), depth + 1) for position, part in enumerate(operand))
            )
        if key in _COMPARISONS:
            raise InvalidRequest("must stand within a field's object, not in place of a field", path)
        if key.startswith("$"):
            raise InvalidRequest("is not a filter operator", path)
        if isinstance(operand, list):
            raise InvalidRequest("must not be a list: use $in to match any of several values", path)
        if not isinstance(operand, dict):
            self._count()
            return Eq(key, self._scalar(operand, path))
        if not operand:
            raise InvalidRequest("must hold at least one operator", path)
        return _all_of([self._comparison(key, name, value, path) for name, value in operand.items()])

    def _comparison(self, field: str, operator: object, operand: object, path: Param) -> Filter:
        if not isinstance(operator, str):
            raise InvalidRequest("must have strings for keys", path)
        path = (*path, operator)
        self._count()
        if operator in _EQUALITIES:
            return _EQUALITIES[operator](field, self._scalar(operand, path))
        if operator in _ORDERINGS:
            return _ORDERINGS[operator](field, _number(operand, path))
        if operator in _MEMBERSHIPS:
            return _MEMBERSHIPS[operator](field, self._list(operand, path))
        if operator == "$exists":
            if not isinstance(operand, bool):
                raise InvalidRequest("must be a boolean", path)
            return Exists(field, operand)
        if operator in _GROUPS:
            raise InvalidRequest("must stand in place of a field, not within a field's object", path)
        raise InvalidRequest("is not a filter operator", path)

    def _list(self, operand: object, path: Param) -> tuple[Scalar, ...]:
        if not isinstance(operand, list) or not operand:
            raise InvalidRequest("must be a list of at least one value", path)
        if len(operand) > MAX_LIST:
            raise InvalidRequest(f"must hold at most {MAX_LIST} values, and holds {len(operand)}", path)
        self.values += len(operand)
        if self.values > MAX_VALUES:
            raise InvalidRequest(f"must hold at most {MAX_VALUES} values in all its lists", self.root)
        return tuple(self._scalar(value, (*path, position)) for position, value in enumerate(operand))

    def _scalar(self, value: object, path: Param) -> Scalar:
        if isinstance(value, str | bool):
            return value
        if isinstance(value, int | float):
            return _number(value, path)
        raise InvalidRequest("must be a string, a number or a boolean", path)

    def _count(self) -> None:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise InvalidRequest(f"must hold at most {MAX_CONDITIONS} conditions", self.root)


def _all_of(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _number(value: object, path: Param) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest("must be a number", path)
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the range of floats
        number = math.inf
    if not math.isfinite(number):
        raise InvalidRequest("must be a finite number", path)
    return number
