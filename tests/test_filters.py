"""The metadata filter: what parses, what is refused and where, and what matches."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinyon.errors import InvalidRequest, Param
from pinyon.filters import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_LIST,
    MAX_VALUES,
    And,
    Eq,
    Exists,
    Filter,
    Gt,
    Gte,
    In,
    Lt,
    Lte,
    Ne,
    Nin,
    Or,
    matches,
    parse,
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "tree"),
    [
        ({}, And(())),
        ({"genre": "drama"}, Eq("genre", "drama")),
        ({"n": 1}, Eq("n", 1.0)),
        ({"n": True}, Eq("n", True)),
        ({"n": {"$eq": 1}}, Eq("n", 1.0)),
        ({"n": {"$ne": "x"}}, Ne("n", "x")),
        ({"n": {"$gt": 1}}, Gt("n", 1.0)),
        ({"n": {"$gte": 1.5}}, Gte("n", 1.5)),
        ({"n": {"$lt": -1}}, Lt("n", -1.0)),
        ({"n": {"$lte": 0}}, Lte("n", 0.0)),
        ({"n": {"$in": ["x", 1, False]}}, In("n", ("x", 1.0, False))),
        ({"n": {"$nin": [True]}}, Nin("n", (True,))),
        ({"n": {"$exists": False}}, Exists("n", False)),
        ({"a": 1, "b": "x"}, And((Eq("a", 1.0), Eq("b", "x")))),
        ({"a": {"$gt": 1, "$lt": 5}}, And((Gt("a", 1.0), Lt("a", 5.0)))),
        ({"$and": [{"a": 1}]}, And((Eq("a", 1.0),))),
        ({"$or": [{"a": 1}, {"b": 2, "c": 3}]}, Or((Eq("a", 1.0), And((Eq("b", 2.0), Eq("c", 3.0)))))),
        ({"a": 1, "$or": [{"$and": [{"b": 2}]}]}, And((Eq("a", 1.0), Or((And((Eq("b", 2.0),)),))))),
        ({"n": 2**53 + 1}, Eq("n", 2.0**53)),
        ({"": "", "a.b": "'", 'q"': 0, "日本": True, " $eq": 1}, And((
            Eq("", ""), Eq("a.b", "'"), Eq('q"', 0.0), Eq("日本", True), Eq(" $eq", 1.0),
        ))),
        ({"x" * 100_000: "y" * 100_000}, Eq("x" * 100_000, "y" * 100_000)),
        ({"n": {"$in": ["x"] * MAX_LIST}}, In("n", ("x",) * MAX_LIST)),
    ],
)  # fmt: skip
def test_parses(value: object, tree: Filter) -> None:
    assert repr(parse(value)) == repr(tree)  # `==` takes 1.0 for True


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"a": 1}
    for level in range(depth - 1):
        value = {"$and" if level % 2 else "$or": [value]}
    return value


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (None, (), "must be an object"),
        ([], (), "must be an object"),
        ([{"a": 1}], (), "must be an object"),
        ("a", (), "must be an object"),
        ({1: "x"}, (), "strings for keys"),
        ({"a": None}, ("a",), "must be a string, a number or a boolean"),
        ({"a": ["x"]}, ("a",), "use $in"),
        ({"a": []}, ("a",), "use $in"),
        ({"a": {}}, ("a",), "at least one operator"),
        ({"a": {"b": 1}}, ("a", "b"), "is not a filter operator"),
        ({"a": {"b": {"$eq": 1}}}, ("a", "b"), "is not a filter operator"),
        ({"a": {"$like": "x"}}, ("a", "$like"), "is not a filter operator"),
        ({"a": {"$EQ": "x"}}, ("a", "$EQ"), "is not a filter operator"),
        ({"a": {"$not": {"$eq": 1}}}, ("a", "$not"), "is not a filter operator"),
        ({"a": {"$gt": 1, "$like": "x"}}, ("a", "$like"), "is not a filter operator"),
        ({"a": {1: "x"}}, ("a",), "strings for keys"),
        ({"a": {"$and": [{"b": 1}]}}, ("a", "$and"), "in place of a field"),
        ({"a": {"$eq": None}}, ("a", "$eq"), "must be a string, a number or a boolean"),
        ({"a": {"$eq": {}}}, ("a", "$eq"), "must be a string, a number or a boolean"),
        ({"a": {"$eq": ["x"]}}, ("a", "$eq"), "must be a string, a number or a boolean"),
        ({"a": {"$ne": [1]}}, ("a", "$ne"), "must be a string, a number or a boolean"),
        ({"a": {"$gt": "1"}}, ("a", "$gt"), "must be a number"),
        ({"a": {"$gte": True}}, ("a", "$gte"), "must be a number"),
        ({"a": {"$lt": None}}, ("a", "$lt"), "must be a number"),
        ({"a": {"$lte": [1]}}, ("a", "$lte"), "must be a number"),
        ({"a": math.nan}, ("a",), "finite"),
        ({"a": {"$lt": -math.inf}}, ("a", "$lt"), "finite"),
        ({"a": {"$eq": 10**400}}, ("a", "$eq"), "finite"),
        ({"a": {"$in": [1, math.inf]}}, ("a", "$in", 1), "finite"),
        ({"a": {"$in": "x"}}, ("a", "$in"), "must be a list of at least one value"),
        ({"a": {"$in": []}}, ("a", "$in"), "must be a list of at least one value"),
        ({"a": {"$nin": {"x": 1}}}, ("a", "$nin"), "must be a list of at least one value"),
        ({"a": {"$in": ["x", None]}}, ("a", "$in", 1), "must be a string, a number or a boolean"),
        ({"a": {"$nin": [["x"]]}}, ("a", "$nin", 0), "must be a string, a number or a boolean"),
        ({"a": {"$in": ["x"] * (MAX_LIST + 1)}}, ("a", "$in"), "at most 10000 values"),
        ({"a": {"$exists": 1}}, ("a", "$exists"), "must be a boolean"),
        ({"a": {"$exists": "true"}}, ("a", "$exists"), "must be a boolean"),
        ({"$and": {"a": 1}}, ("$and",), "must be a list of at least one object"),
        ({"$and": []}, ("$and",), "must be a list of at least one object"),
        ({"$or": None}, ("$or",), "must be a list of at least one object"),
        ({"$or": [{"a": 1}, "b"]}, ("$or", 1), "must be an object"),
        ({"$or": [{"a": 1}, {}]}, ("$or", 1), "must not be empty"),
        ({"$or": [{"a": 1}, {"$and": [{"b": {"$gt": "x"}}]}]}, ("$or", 1, "$and", 0, "b", "$gt"), "must be a number"),
        ({"$eq": 1}, ("$eq",), "within a field's object"),
        ({"$exists": True}, ("$exists",), "within a field's object"),
        ({"$not": [{"a": 1}]}, ("$not",), "is not a filter operator"),
        ({"$": 1}, ("$",), "is not a filter operator"),
        ({"ok": 1, "$price": 1}, ("$price",), "is not a filter operator"),
        (nested(MAX_DEPTH + 1), (), "nested"),
        (nested(5_000), (), "nested"),
        ({"$or": [{"a": n} for n in range(MAX_CONDITIONS)]}, (), "at most 10000 conditions"),
        ({str(n): n for n in range(MAX_CONDITIONS)}, (), "at most 10000 conditions"),
        ({str(n): {"$in": [1] * MAX_LIST} for n in range(MAX_VALUES // MAX_LIST + 1)}, (), "at most 100000 values"),
    ],
)  # fmt: skip
def test_refuses_and_says_where(value: object, path: Param, reason: str) -> None:
    for root in (("filter",), ("queries", 0, "filter")):
        with pytest.raises(InvalidRequest) as refused:
            parse(value, root)
        assert refused.value.param == (*root, *path)
        assert reason in refused.value.reason


def test_takes_what_is_just_within_bounds() -> None:
    assert matches(parse(nested(MAX_DEPTH)), {"a": 1.0})
    assert matches(parse({"$or": [{"a": n} for n in range(MAX_CONDITIONS // 2 - 1)]}), {"a": 7.0})


METADATA: dict[str, Any] = {
    "s": "x", "empty": "", "digit": "1", "n": 1.0, "half": 0.5, "minus": -2.0, "zero": 0.0,
    "yes": True, "no": False, "tags": ["a", "b", "1"], "none": [], "é": "e\u0301", "a.b": "dot",
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"s": "x"}, True),
        ({"s": "X"}, False),
        ({"s": "x "}, False),
        ({"empty": ""}, True),
        ({"missing": ""}, False),
        ({"n": 1}, True),
        ({"n": "1"}, False),
        ({"digit": 1}, False),
        ({"n": True}, False),
        ({"yes": 1}, False),
        ({"yes": True}, True),
        ({"no": False}, True),
        ({"no": 0}, False),
        ({"zero": False}, False),
        ({"zero": -0.0}, True),
        ({"tags": "a"}, True),
        ({"tags": "c"}, False),
        ({"tags": 1}, False),
        ({"none": ""}, False),
        ({"é": "é"}, False),
        ({"a.b": "dot"}, True),
        ({"a": {"$exists": True}}, False),
        ({"s": {"$ne": "y"}}, True),
        ({"s": {"$ne": "x"}}, False),
        ({"missing": {"$ne": "x"}}, False),
        ({"n": {"$ne": "1"}}, True),
        ({"n": {"$ne": True}}, True),
        ({"tags": {"$ne": "a"}}, False),
        ({"tags": {"$ne": "c"}}, True),
        ({"none": {"$ne": "a"}}, True),
        ({"n": {"$gt": 1}}, False),
        ({"n": {"$gte": 1}}, True),
        ({"half": {"$lt": 1}}, True),
        ({"minus": {"$lte": -2}}, True),
        ({"s": {"$gt": 0}}, False),
        ({"s": {"$lte": 0}}, False),
        ({"digit": {"$gte": 0}}, False),
        ({"yes": {"$gte": 0}}, False),
        ({"tags": {"$lt": 5}}, False),
        ({"missing": {"$lt": 5}}, False),
        ({"s": {"$in": ["y", "x"]}}, True),
        ({"n": {"$in": ["1", True, 2]}}, False),
        ({"n": {"$in": ["1", 1]}}, True),
        ({"yes": {"$in": [1, "true"]}}, False),
        ({"tags": {"$in": ["z", "b"]}}, True),
        ({"missing": {"$in": ["x"]}}, False),
        ({"s": {"$nin": ["y", 1]}}, True),
        ({"s": {"$nin": ["y", "x"]}}, False),
        ({"tags": {"$nin": ["c", "b"]}}, False),
        ({"tags": {"$nin": ["c", 1]}}, True),
        ({"missing": {"$nin": ["x"]}}, False),
        ({"none": {"$nin": ["x"]}}, True),
        ({"none": {"$exists": True}}, True),
        ({"no": {"$exists": True}}, True),
        ({"missing": {"$exists": False}}, True),
        ({"s": {"$exists": False}}, False),
        ({"n": {"$gt": 0, "$lt": 1}}, False),
        ({"half": {"$gt": 0, "$lt": 1}}, True),
        ({"s": "x", "n": 2}, False),
        ({"$or": [{"s": "y"}, {"n": 1}]}, True),
        ({"$or": [{"s": "y"}, {"n": 2}]}, False),
        ({"$and": [{"s": "x"}, {"$or": [{"n": 2}, {"yes": True}]}]}, True),
        ({"s": "x", "$or": [{"n": 2}, {"yes": False}]}, False),
        ({}, True),
    ],
)  # fmt: skip
def test_matches(value: object, wanted: bool) -> None:
    assert matches(parse(value), METADATA) is wanted


texts = st.sampled_from(["", "a", "b", "1", "true", "é", "日本", '"', "\x00"]) | st.text(max_size=3)
numbers = st.sampled_from([0.0, -0.0, 1.0, -1.5, 2.0**53, 1e308]) | st.floats(allow_nan=False, allow_infinity=False)
scalars = texts | numbers | st.booleans()
fields = st.sampled_from(["f", "g", "", "a.b", 'q"', "é"])
metadatas = st.dictionaries(fields, scalars | st.lists(texts, max_size=3), max_size=4)
some = st.lists(scalars, min_size=1, max_size=4)


@given(fields, scalars, some, numbers, metadatas)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_operators_agree_with_each_other(
    field: str, value: str | float | bool, values: list[str | float | bool], number: float, metadata: dict[str, Any]
) -> None:
    def holds(operator: str, operand: object) -> bool:
        return matches(parse({field: {operator: operand}}), metadata)

    there = field in metadata
    assert holds("$exists", True) is there
    assert holds("$exists", False) is not there
    assert holds("$ne", value) is (there and not holds("$eq", value))
    assert holds("$in", values) is any(holds("$eq", one) for one in values)
    assert holds("$nin", values) is all(holds("$ne", one) for one in values)
    assert holds("$gte", number) is (holds("$gt", number) or holds("$eq", number))
    assert holds("$lte", number) is (holds("$lt", number) or holds("$eq", number))
    is_number = isinstance(metadata.get(field), float)
    assert [holds("$lt", number), holds("$eq", number), holds("$gt", number)].count(True) == is_number
    assert matches(parse({field: value}), metadata) is holds("$eq", value)
    if there and not isinstance(metadata[field], list):
        assert holds("$eq", metadata[field])


conditions = st.one_of(
    st.dictionaries(fields, scalars, min_size=1, max_size=2),
    st.builds(lambda f, o, v: {f: {o: v}}, fields, st.sampled_from(["$eq", "$ne"]), scalars),
    st.builds(lambda f, o, v: {f: {o: v}}, fields, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), numbers),
    st.builds(lambda f, o, v: {f: {o: v}}, fields, st.sampled_from(["$in", "$nin"]), some),
)


@given(st.lists(conditions, min_size=1, max_size=4), metadatas)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_and_is_all_and_or_is_any(parts: list[dict[str, Any]], metadata: dict[str, Any]) -> None:
    each = [matches(parse(part), metadata) for part in parts]
    assert matches(parse({"$and": parts}), metadata) is all(each)
    assert matches(parse({"$or": parts}), metadata) is any(each)
    keys = list(itertools.chain.from_iterable(parts))
    if len(keys) == len(set(keys)):
        together = {key: value for part in parts for key, value in part.items()}
        assert matches(parse(together), metadata) is all(each)


operators = ["$and", "$or", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$not", "$", "f", "g"]
anything = st.recursive(
    st.none() | scalars | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(operators), inner, max_size=3),
    max_leaves=12,
)


@given(anything, metadatas)
@settings(max_examples=600, deadline=None, derandomize=True)
def test_any_json_is_a_filter_or_is_refused_with_a_path_into_it(value: Any, metadata: dict[str, Any]) -> None:
    value = json.loads(json.dumps(value))
    try:
        tree = parse(value)
    except InvalidRequest as error:
        assert error.param[0] == "filter"
        at = value
        for step in error.param[1:]:
            at = at[step]
    else:
        assert matches(tree, metadata) in (True, False)
