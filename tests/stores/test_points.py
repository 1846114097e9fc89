"""Records as points: values back to the bit, and conditions that mean what filters mean, asked of the engine itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pinyon.filters import And, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Nin, Or, matches
from pinyon.stores.base import Layout, Metric, Record, SparseVector
from pinyon.stores.edge.journal import Batch
from pinyon.stores.edge.shard import Shard
from pinyon.stores.points import from_unit, number_field, point_id, query_vector, to_condition, to_points, to_units

PLAIN = Layout(1, Metric.DOTPRODUCT)

fields = st.sampled_from(["f", "", 'a.b["0"]', "日本", "f=", "k" * 300, "1:f"])
texts = st.sampled_from(["", "x", "1", "true", "1.0", "é", "e\u0301", '"\\\x00', "long " * 40, "f=sx"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=5
)
numbers = st.sampled_from(
    [0.0, -0.0, 1.0, 0.1, 4095.0, 4096.0, -4095.0, -4096.0, 2.0**53, 2.0**53 + 2, -1e300, 5e-324]
) | st.floats(allow_nan=False, allow_infinity=False)
scalars = texts | numbers | st.booleans()
metadatas = st.dictionaries(fields, scalars | st.lists(texts, max_size=3), max_size=4)
leaves: st.SearchStrategy[Filter] = st.one_of(
    *(st.builds(kind, fields, scalars) for kind in (Eq, Ne)),
    *(st.builds(kind, fields, numbers) for kind in (Gt, Gte, Lt, Lte)),
    *(st.builds(kind, fields, st.lists(scalars, max_size=4).map(tuple)) for kind in (In, Nin)),
    st.builds(Exists, fields, st.booleans()),
)
filters: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda parts: st.one_of(*(st.builds(kind, st.lists(parts, max_size=3).map(tuple)) for kind in (And, Or))),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def shard() -> Iterator[Shard]:
    with tempfile.TemporaryDirectory() as folder:
        shard = Shard.create(Path(folder, "shard"), PLAIN)
        yield shard
        shard.close()


def points(*metadata: dict[str, Any], namespace: str) -> Batch:
    values = np.ones(1, np.float32)
    records = [Record(str(n), values, metadata=fields) for n, fields in enumerate(metadata)]
    return Batch(1, puts=to_points(PLAIN, namespace, records))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(metadatas, min_size=1, max_size=8), st.lists(filters, min_size=1, max_size=6))
def test_a_condition_holds_where_the_filter_matches(
    shard: Shard, metadata: list[dict[str, Any]], asked: list[Filter]
) -> None:
    shard.apply(points(*metadata, namespace="n"))
    for filter in asked:
        wanted = [str(n) for n, fields in enumerate(metadata) if matches(filter, fields)]
        assert sorted(shard.ids(to_condition(filter))) == wanted
        assert shard.count(to_condition(filter)) == len(wanted)
    shard.apply(Batch(2, dropped=["n"]))
    assert shard.count(None) == 0


def test_one_record_of_each_kind_under_one_filter_of_each_kind(shard: Shard) -> None:
    """Every operator, with every type of value, against every type of field."""
    numbers = [0.0, -0.0, 1.0, 0.5, 4096.0]
    values: list[Any] = [True, False, *numbers, "", "1", "true", "x" * 100, [], ["1"], ["", "x" * 100]]
    metadata: list[dict[str, Any]] = [{}, {"g": "1"}, *({"f": value} for value in values)]
    plain: list[Any] = [value for value in values if not isinstance(value, list)]
    asked: list[Filter] = [Exists("f", True), Exists("f", False), And(()), Or(())]
    asked += [kind("f", value) for kind in (Eq, Ne) for value in plain]
    asked += [kind("f", (a, b)) for kind in (In, Nin) for a in plain for b in plain]
    asked += [kind("f", value) for kind in (Gt, Gte, Lt, Lte) for value in (-1.0, 0.0, -0.0, 0.5, 1.0, 2.0)]
    shard.apply(points(*metadata, namespace="each"))
    for filter in asked:
        wanted = sorted(str(n) for n, fields in enumerate(metadata) if matches(filter, fields))
        assert sorted(shard.ids(to_condition(filter))) == wanted, filter
    shard.apply(Batch(2, dropped=["each"]))


@pytest.mark.parametrize("many", [2, 100, 101, 1_000])
def test_long_lists_of_numbers(shard: Shard, many: int) -> None:
    """With and without terms, in the order of nobody."""
    rng = np.random.default_rng(many)
    there = np.unique(rng.integers(-9_000, 9_000, 3_000)) / 2
    shard.apply(points(*({"f": float(number)} for number in there), {"f": "5000"}, {"g": 5000.0}, namespace="long"))
    asked = rng.permutation(np.concatenate([rng.choice(there, many // 2, replace=False), 10_000.0 + np.arange(many)]))
    for filter in (In("f", tuple(asked.tolist())), Nin("f", tuple(asked.tolist())), In("f", ("5000", *asked.tolist()))):
        wanted = {str(n) for n, number in enumerate(there) if matches(filter, {"f": float(number)})}
        wanted |= {str(len(there))} if matches(filter, {"f": "5000"}) else set()
        assert set(shard.ids(to_condition(filter))) == wanted
    shard.apply(Batch(2, dropped=["long"]))


def test_numbers_of_which_there_are_many_have_no_terms() -> None:
    (one,) = points({"f": 4096.0, "g": 0.5, "h": -1e9}, namespace="n").puts
    (other,) = points({"f": 4095.0, "g": 1.0, "h": -4095.0}, namespace="n").puts
    assert [len(point.payload["t"].split()) for point in (one, other)] == [3, 6]


def test_records_that_earlier_versions_wrote_with_a_term_for_each_number(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pinyon.stores.points._has_term", lambda value: True)
        batch = points({"f": 5000.0}, {"f": 0.5}, {"f": 3.0}, {"f": "5000"}, namespace="earlier")
    assert all(len(point.payload["t"].split()) == 2 for point in batch.puts)
    shard.apply(batch)
    for filter, wanted in (
        (Eq("f", 5000.0), ["0"]),
        (In("f", (0.5, 3.0)), ["1", "2"]),
        (Ne("f", 5000.0), ["1", "2", "3"]),
        (Nin("f", (0.5, 3.0, "5000")), ["0"]),
    ):
        assert sorted(shard.ids(to_condition(filter))) == wanted, filter
    shard.apply(Batch(2, dropped=["earlier"]))


vectors = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 9)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(vectors)
def test_units_give_the_original_back_bit_for_bit(originals: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    units, restores = to_units(originals)
    for original, unit, restore in zip(originals, units, restores, strict=True):
        back = unit if restore is None else from_unit(unit, restore)
        assert back.tobytes() == original.tobytes()
        length = float(np.sqrt(np.square(unit.astype(np.float64)).sum()))
        assert length == pytest.approx(1, abs=2e-6) or not original.any()


def test_originals_of_ordinary_vectors_take_two_bits_a_dimension() -> None:
    originals = (7 * np.random.default_rng(1).standard_normal((50, 384))).astype(np.float32)
    units, restores = to_units(originals)
    for original, unit, restore in zip(originals, units, restores, strict=True):
        assert restore is not None
        assert len(restore) == 140  # base64 of 105 bytes
        assert from_unit(unit, restore).tobytes() == original.tobytes()
    assert to_units(units)[1] == [None] * 50


def test_only_cosine_searches_with_a_unit() -> None:
    values = np.array([3, 4], np.float32)
    assert query_vector(Layout(2, Metric.COSINE), values).tolist() == pytest.approx([0.6, 0.8])
    for metric in (Metric.DOTPRODUCT, Metric.EUCLIDEAN):
        assert query_vector(Layout(2, metric), values).tolist() == [3, 4]


def test_points_of_different_records_differ() -> None:
    names = [("", "a"), ("a", ""), ("a", "b"), ("ab", ""), ("", "ab"), ("1:a", "b"), ("é", "a"), ("e\u0301", "a")]
    assert len({point_id(namespace, id) for namespace, id in names}) == len(names)


def test_fields_of_numbers_have_names_of_their_own() -> None:
    names = ["", "_", "a", "A", "a_", "a.b", "a_2e_b", "_h_", "x" * 64, "x" * 65, "é", "a[0]", '"', "_5f_"]
    encoded = [number_field(name) for name in names]
    assert len(set(encoded)) == len(names)
    assert all(name.replace("_", "").isalnum() and name.isascii() and len(name) < 80 for name in encoded)


def test_a_sparse_record_is_a_point_without_a_dense_vector() -> None:
    sparse = SparseVector(np.array([1, 2**32 - 1], np.uint32), np.array([0.5, -1], np.float32))
    (point,) = to_points(Layout(None, Metric.DOTPRODUCT), "n", [Record("a", sparse=sparse)])
    assert point.dense is None
    assert point.indices == sparse.indices.tobytes()
    assert point.weights == sparse.values.tobytes()
