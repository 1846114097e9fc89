"""A store beside the memory store, through random histories of writes, reads and restarts.

Scores are compared within a tolerance, and so is what of a tie makes the cut. What stores/base.py leaves open is left
open: a record that only its sparse product ranks, which is exactly 0, may be there or not.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pinyon.filters import parse
from pinyon.stores.base import Change, Index, Layout, Match, Metadata, Metric, Query, Record, SparseVector, Store
from pinyon.stores.memory import MemoryStore
from pinyon.testing_stores.scenario import EVERYTHING, content, contents, vector
from pinyon.types import FloatArray

Result = TypeVar("Result")


@dataclass(frozen=True)
class Subject:
    """How a store under test is made over a folder, and how long to go on."""

    make: Callable[[Path], Store]
    durable: bool
    histories: int
    steps: int = 30
    # waits for what the index does behind the scenes; called before queries and restarts
    settle: Callable[[Index], Coroutine[Any, Any, None]] | None = None


DIMENSION = 3
HYBRID = Layout(DIMENSION, Metric.DOTPRODUCT)  # twice below: there is more to it
LAYOUTS = [HYBRID, *(Layout(DIMENSION, metric) for metric in Metric), Layout(None, Metric.DOTPRODUCT)]

# Few of each, so that operations meet; none plain, so that quoting and encoding are always at work.
namespaces = st.sampled_from(["", "", 'ünï "/'])
IDS = ["a", "a b", "a/", "A", 'q"', "é", "日本", "\uff5e", "😀", "x" * 512]
ids = st.sampled_from(IDS)
fields = st.sampled_from(["f", "", 'a.b["0"]', "日本"])
texts = st.sampled_from(["x", "X", "", "1", "\u00e9", "e\u0301", 'é"' + "long " * 60])
numbers = st.sampled_from([0.0, -0.0, 1.0, -1.5, 0.1, 2.0**53, 2.0**63, 1e300, 5e-324])
scalars = texts | numbers | st.booleans()
metadatas: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    fields, scalars | st.lists(texts, max_size=3), min_size=2, max_size=4
) | st.just({})

# Quarters: sums of their products are exact in float32 too, so that ties are ties everywhere.
dense = st.lists(st.integers(-3, 3), min_size=DIMENSION, max_size=DIMENSION).filter(any)
vectors = dense.map(lambda quarters: vector(*(n / 4 for n in quarters)))
sparses = st.dictionaries(
    st.sampled_from([0, 1, 2, 77, 2**32 - 1]),
    st.sampled_from([-2.0, -1.0, -0.25, 0.5, 1.0, 3.0]),
    min_size=1,
    max_size=4,
).map(
    lambda weights: SparseVector(np.array(sorted(weights), np.uint32), vector(*(weights[i] for i in sorted(weights))))
)

lists = st.lists(scalars, min_size=1, max_size=4)
comparisons = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), scalars),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), numbers),
    st.tuples(st.sampled_from(["$in", "$nin"]), lists),
    st.tuples(st.just("$exists"), st.booleans()),
)
on_fields = st.dictionaries(
    fields, scalars | st.lists(comparisons, min_size=1, max_size=2).map(dict), min_size=1, max_size=2
)
filters: st.SearchStrategy[Any] = st.recursive(
    on_fields,
    lambda parts: st.dictionaries(
        st.sampled_from(["$and", "$or"]), st.lists(parts, min_size=1, max_size=3), min_size=1
    ),
    max_leaves=4,
)


def vectors_of(layout: Layout, *, part: bool) -> st.SearchStrategy[tuple[FloatArray | None, SparseVector | None]]:
    """Dense, sparse or both, as the layout takes them; with `part`, perhaps neither."""
    if layout.dimension is None:
        return st.tuples(st.none(), st.none() | sparses if part else sparses)
    if layout.metric is not Metric.DOTPRODUCT:
        return st.tuples(st.none() | vectors if part else vectors, st.none())
    both = st.tuples(st.none() | vectors, st.none() | sparses)
    return both if part else both.filter(lambda pair: pair[0] is not None or pair[1] is not None)


def records_of(layout: Layout, id: str) -> st.SearchStrategy[Record]:
    whole = vectors_of(layout, part=False)
    return st.builds(lambda pair, metadata: Record(id, pair[0], pair[1], metadata), whole, metadatas)


class StoreMachine(RuleBasedStateMachine):
    """`index` is the store's, `model` is memory's; each rule does one thing to both and compares."""

    subject: Subject

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.sequence = 0

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(call)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    @initialize(data=st.data(), layout=st.sampled_from(LAYOUTS))
    def create(self, data: st.DataObject, layout: Layout) -> None:
        self.layout = layout
        self.store = self.subject.make(Path(self.folder.name))
        self.index: Index = self.run(self.store.create("index", layout))
        self.model: Index = self.run(MemoryStore().create("index", layout))
        self.upsert(data, "", data.draw(st.permutations(IDS)))

    def written(self, number: int) -> None:
        assert number > self.sequence
        assert self.index.sequence == number
        self.sequence = number

    # --- Writes

    @rule(data=st.data(), namespace=namespaces, names=st.lists(ids, min_size=1, max_size=6))
    def upsert(self, data: st.DataObject, namespace: str, names: list[str]) -> None:
        records = data.draw(st.tuples(*(records_of(self.layout, id) for id in names)))
        self.written(self.run(self.index.upsert(namespace, records)))
        self.run(self.model.upsert(namespace, records))

    @rule(data=st.data(), namespace=namespaces, names=st.lists(ids, min_size=2, max_size=5))
    def update(self, data: st.DataObject, namespace: str, names: list[str]) -> None:
        pairs = data.draw(st.tuples(*(vectors_of(self.layout, part=True) for _ in names)))
        for id, (values, weights) in zip(names, pairs, strict=True):
            change = Change(values, weights, data.draw(st.none() | metadatas))
            self.written(self.run(self.index.update(namespace, id, change)))
            self.run(self.model.update(namespace, id, change))

    @rule(namespace=namespaces, filter=filters, metadata=metadatas)
    def update_where(self, namespace: str, filter: Any, metadata: Metadata) -> None:
        number, count = self.run(self.index.update_where(namespace, parse(filter), metadata))
        self.written(number)
        assert count == self.run(self.model.update_where(namespace, parse(filter), metadata))[1]

    @rule(namespace=namespaces, names=st.lists(ids, min_size=1, max_size=2))
    def delete(self, namespace: str, names: list[str]) -> None:
        self.written(self.run(self.index.delete(namespace, names)))
        self.run(self.model.delete(namespace, names))

    @rule(namespace=namespaces, filter=filters)
    def delete_where(self, namespace: str, filter: Any) -> None:
        self.written(self.run(self.index.delete_where(namespace, parse(filter))))
        self.run(self.model.delete_where(namespace, parse(filter)))

    @rule(namespace=namespaces, there=st.booleans())
    def make_or_delete_namespace(self, namespace: str, there: bool) -> None:
        for index in (self.index, self.model):
            call = index.create_namespace if there else index.delete_namespace
            number = self.run(call(namespace))
            if index is self.index:
                self.written(number)

    def settle(self) -> None:
        if self.subject.settle is not None:
            self.run(self.subject.settle(self.index))

    @rule()
    def reopen(self) -> None:
        self.settle()
        self.run(self.index.close())
        self.index = self.run(self.store.open("index"))
        assert self.index.sequence >= self.sequence

    @precondition(lambda self: self.subject.durable)
    @rule()
    def restart(self) -> None:
        self.settle()
        self.run(self.store.close())
        self.store = self.subject.make(Path(self.folder.name))
        self.index = self.run(self.store.open("index"))
        assert self.index.layout == self.layout
        assert self.index.sequence >= self.sequence

    # --- Reads

    @rule(namespace=namespaces, names=st.lists(ids, max_size=6))
    def fetch(self, namespace: str, names: list[str]) -> None:
        got, wanted = (self.run(index.fetch(namespace, names)) for index in (self.index, self.model))
        assert {id: content(record) for id, record in got.items()} == {
            id: content(record) for id, record in wanted.items()
        }

    @rule(namespace=namespaces, start=ids)
    def list_ids(self, namespace: str, start: str) -> None:
        for prefix, after, limit in product(("", "a", "é"), (None, start), (1, 3, 9, 100)):
            got, wanted = (
                self.run(index.list_ids(namespace, prefix=prefix, after=after, limit=limit))
                for index in (self.index, self.model)
            )
            assert got == wanted

    @rule(data=st.data(), namespace=namespaces, some=st.lists(filters, min_size=2, max_size=5), start=ids)
    def select(self, data: st.DataObject, namespace: str, some: list[Any], start: str) -> None:
        pair = data.draw(vectors_of(self.layout, part=False))
        for filter in some:
            tree = parse(filter)
            for after, limit in ((None, 2), (start, 100)):
                got, wanted = (
                    self.run(index.fetch_where(namespace, tree, after=after, limit=limit))
                    for index in (self.index, self.model)
                )
                assert contents(got) == contents(wanted)
            count = self.run(self.model.count_where(namespace, tree))
            event(f"a filter leaves {min(count, 3)} or more")
            assert self.run(self.index.count_where(namespace, tree)) == count
            self.compare_queries(namespace, Query(0, *pair, filter=tree))

    @rule(data=st.data(), namespace=namespaces, with_values=st.booleans(), with_metadata=st.booleans())
    def query(self, data: st.DataObject, namespace: str, with_values: bool, with_metadata: bool) -> None:
        self.settle()
        for pair in data.draw(st.lists(vectors_of(self.layout, part=False), min_size=2, max_size=4)):
            self.compare_queries(namespace, Query(0, *pair, None, with_values, with_metadata))

    def compare_queries(self, namespace: str, query: Query) -> None:
        every = self.run(self.model.query(namespace, replace(query, top_k=10**4)))
        missing = self.run(optional(self.model, namespace, query, every))
        for top_k in (1, 3, 10**4):
            got = self.run(self.index.query(namespace, replace(query, top_k=top_k)))
            check_matches(got, every, missing, top_k, self.layout.metric)

    # --- After each step

    @invariant()
    def same_contents(self) -> None:
        if not hasattr(self, "index"):
            return
        counts, wanted = (list(self.run(index.namespaces()).items()) for index in (self.index, self.model))
        assert counts == wanted
        for namespace, _ in wanted:
            got, right = (
                self.run(index.fetch_where(namespace, EVERYTHING, after=None, limit=100))
                for index in (self.index, self.model)
            )
            assert contents(got) == contents(right)


async def optional(model: Index, namespace: str, query: Query, every: list[Match]) -> set[str]:
    """The ids of matches that may be left out. Their scores are sums of few quarters, so 0 is exactly 0."""
    if query.sparse is None:
        return set()
    zeros = [match.record.id for match in every if match.score == 0]
    if query.values is None:
        return set(zeros)
    records = await model.fetch(namespace, zeros)
    return {id for id in zeros if records[id].values is None}


def check_matches(got: list[Match], every: list[Match], may_miss: Collection[str], top_k: int, metric: Metric) -> None:
    """`got` are the best `top_k` of `every`, which is what memory ranks, best first, without a limit. Those in
    `may_miss` may be left out, as if they were not in the index."""
    sign = 1 if metric is Metric.EUCLIDEAN else -1
    wanted = {match.record.id: match for match in every}
    names = {match.record.id for match in got}
    assert len(names) == len(got) <= top_k
    for match in got:
        right = wanted[match.record.id]
        assert match.score == pytest.approx(right.score, rel=1e-5, abs=1e-5)
        assert content(match.record) == content(right.record)
    assert got == sorted(got, key=lambda match: (sign * match.score, match.record.id))
    left_out = [match for match in every if match.record.id not in names | set(may_miss)]
    if len(got) < top_k:
        assert not left_out
    else:  # nothing left out is better than the worst that is there
        worst = max(sign * wanted[id].score for id in names)
        assert all(sign * match.score >= worst - 1e-4 for match in left_out)


def drive(subject: Subject, *phases: Phase) -> None:
    machine = type("Machine", (StoreMachine,), {"subject": subject})
    chosen = settings(
        max_examples=subject.histories,
        stateful_step_count=subject.steps,
        deadline=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=phases or tuple(Phase),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(machine, settings=chosen)
