"""upsert, query, fetch, list, update, delete, stats, namespaces, and records of text: what is done with an index.

Checks what stores/base.py leaves to the services (see record_checks), and hands the rest to the store's index. The
default namespace is "". `sequence` in a result is the index's number: of the write, or one that a read has seen.

Read units are counted so: a query is 1, and 1 more for each 10 records whose values or metadata it gives; a fetch is 1
for each 10 records begun; a listing is 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pinyon.config import Limits
from pinyon.errors import AlreadyExists, InvalidRequest, NotFound
from pinyon.filters import Filter
from pinyon.services import reads
from pinyon.services import record_checks as checks
from pinyon.services import record_texts as texts
from pinyon.services.indexes import OpenIndex
from pinyon.services.inference import InferenceService
from pinyon.services.namespace_schemas import MemorySchemas, NamespaceSchemas
from pinyon.services.paging import make_token, read_token
from pinyon.services.record_checks import Draft
from pinyon.services.record_texts import Hit, Search, SearchResult, TextDraft
from pinyon.state.records import IndexRecord, Pod, Schema
from pinyon.stores.base import Change, Index, Match, Metadata, Query, Record, SparseVector
from pinyon.types import FloatArray, Metric

MAX_LIST = 100  # ids or namespaces a page
MAX_FETCH = 10_000  # records a page of fetch_by_metadata
DEFAULT_PAGE = 100
RECORDS_PER_READ_UNIT = 10


class Indexes(Protocol):
    """What is needed of the control plane."""

    async def open_index(self, name: str) -> OpenIndex:
        """Raises NotFound, Unavailable."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class VectorQuery:
    """By `values`, `sparse` or both, or by the vectors of the record `id`."""

    top_k: int
    id: str | None = None
    values: FloatArray | None = None
    sparse: SparseVector | None = None
    filter: Filter | None = None
    with_values: bool = False
    with_metadata: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """`count`: records upserted, or that a filter matched. `model` embedded texts of `tokens`
    together."""

    sequence: int
    count: int = 0
    model: str | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Matches:
    matches: Sequence[Match]
    read_units: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Fetched:
    records: Sequence[Record]
    read_units: int
    sequence: int
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Ids:
    ids: Sequence[str]
    read_units: int
    sequence: int
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """`namespaces`: name -> how many records, by rising name."""

    record: IndexRecord
    namespaces: dict[str, int]
    sequence: int


@dataclass(frozen=True, slots=True)
class Namespace:
    """`size_bytes`: of its dense vectors alone, 4 bytes a value. `schema`: its own, or else the index's."""

    name: str
    records: int
    size_bytes: int
    sequence: int
    schema: Schema = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Namespaces:
    """One page; `total` is how many there are on all pages."""

    namespaces: Sequence[Namespace]
    total: int
    sequence: int
    next: str | None = field(default=None)


@dataclass(frozen=True, slots=True)
class RecordsService:
    """The verbs over the indexes of one server. All raise NotFound for an unknown index, InvalidRequest, Unavailable;
    those of text also what inference raises."""

    indexes: Indexes
    inference: InferenceService
    schemas: NamespaceSchemas = field(default_factory=MemorySchemas)
    limits: Limits = field(default_factory=Limits)
    # Namespaces are made and deleted one at a time: whether one is there must stay true until it is changed.
    _naming: asyncio.Lock = field(default_factory=asyncio.Lock)

    # --- writes ------------------------------------------------------------------------------------------------------

    async def upsert(self, index: str, namespace: str, drafts: Sequence[Draft]) -> Written:
        """All of them or, where one is refused, none."""
        opened = await self._open(index, namespace)
        records = checks.checked_records(drafts, opened.record, self.limits.max_upsert_bytes)
        return Written(await opened.index.upsert(namespace, records), len(records))

    async def upsert_texts(self, index: str, namespace: str, drafts: Sequence[TextDraft]) -> Written:
        """Embeds each record's text with the index's own model. All of them or none."""
        opened = await self._open(index, namespace)
        embedded, tokens = await texts.embedded(drafts, opened.record, self.inference, self.limits.max_upsert_texts)
        records = checks.checked_records(embedded, opened.record)
        model = texts.model_of(opened.record).model
        return Written(await opened.index.upsert(namespace, records), len(records), model, tokens)

    async def update(self, index: str, namespace: str, draft: Draft) -> Written:
        """Replaces the vectors that are given, and merges the metadata. An unknown id is no error."""
        opened = await self._open(index, namespace)
        checks.check_id(draft.id, ("id",))
        values = None if draft.values is None or draft.values.size == 0 else draft.values
        if values is not None:
            checks.check_dense([(("values",), values)], opened.record)
        sparse = None if draft.sparse is None else checks.checked_sparse(draft.sparse, opened.record, ("sparse",))
        metadata = checks.checked_metadata(draft.metadata, ("metadata",))
        change = Change(values, sparse, metadata or None)
        check = _check_merged if metadata else None
        return Written(await opened.index.update(namespace, draft.id, change, check=check), 0)

    async def update_where(
        self, index: str, namespace: str, filter: Filter, metadata: dict[str, object], *, dry_run: bool
    ) -> Written:
        """Merges metadata into every record that matches, or with `dry_run` only counts them.

        None of them if one would have too much then.
        """
        opened = await self._open(index, namespace)
        checked = checks.checked_metadata(metadata, ("metadata",))
        if dry_run or not checked:
            return Written(opened.index.sequence, await opened.index.count_where(namespace, filter))
        sequence, matched = await opened.index.update_where(namespace, filter, checked, check=_check_merged)
        return Written(sequence, matched)

    async def delete(self, index: str, namespace: str, ids: Sequence[str]) -> Written:
        """Unknown ids, and an unknown namespace, are no error."""
        opened = await self._open(index, namespace)
        return Written(await opened.index.delete(namespace, checks.checked_ids(ids)))

    async def delete_where(self, index: str, namespace: str, filter: Filter) -> Written:
        opened = await self._open(index, namespace)
        return Written(await opened.index.delete_where(namespace, filter))

    # --- reads -------------------------------------------------------------------------------------------------------

    async def query(self, index: str, namespace: str, query: VectorQuery) -> Matches:
        """The nearest records. An id that is not there, and an unknown namespace, have none."""
        opened = await self._open(index, namespace)
        sequence = opened.index.sequence
        checks.check_top_k(query.top_k, whole=query.with_values or query.with_metadata)
        asked = await _checked(opened, namespace, query)
        found = [] if asked is None else await reads.find(opened.index, namespace, asked, self.limits.max_result_bytes)
        units = 1 + (len(found) // RECORDS_PER_READ_UNIT if query.with_values or query.with_metadata else 0)
        return Matches(found, units, sequence)

    async def fetch(self, index: str, namespace: str, ids: Sequence[str]) -> Fetched:
        """Records in the order of their ids in the request; unknown ones are left out."""
        opened = await self._open(index, namespace)
        sequence = opened.index.sequence
        found = await opened.index.fetch(namespace, checks.checked_ids(ids))
        return Fetched(list(found.values()), _fetch_units(len(found)), sequence)

    async def fetch_where(
        self, index: str, namespace: str, filter: Filter, *, token: str | None, limit: int | None
    ) -> Fetched:
        """A page of the records that match, by rising id."""
        opened = await self._open(index, namespace)
        sequence = opened.index.sequence
        after, limit = read_token(token, limit, default=DEFAULT_PAGE, highest=MAX_FETCH)
        found, more = await reads.page(opened.index, namespace, filter, after, limit, self.limits.max_result_bytes)
        following = make_token(found[-1].id, limit) if more else None
        return Fetched(found, _fetch_units(len(found)), sequence, following)

    async def list_ids(self, index: str, namespace: str, *, prefix: str, token: str | None, limit: int | None) -> Ids:
        """A page of ids, by their bytes."""
        opened = await self._open(index, namespace)
        sequence = opened.index.sequence
        after, limit = read_token(token, limit, default=DEFAULT_PAGE, highest=MAX_LIST)
        _check_prefix(prefix, checks.MAX_ID)
        found = await opened.index.list_ids(namespace, prefix=prefix, after=after, limit=limit + 1)
        more = make_token(found[limit - 1], limit) if len(found) > limit else None
        return Ids(found[:limit], 1, sequence, more)

    async def stats(self, index: str, filter: Filter | None = None) -> Stats:
        """With a filter, on pods alone, only the records that match are counted."""
        opened = await self.indexes.open_index(index)
        sequence = opened.index.sequence
        if filter is not None and not isinstance(opened.record.deployment, Pod):
            raise InvalidRequest("is not supported for the stats of serverless indexes", ("filter",))
        counts = await opened.index.namespaces()
        if filter is not None:
            counts = {name: await opened.index.count_where(name, filter) for name in counts}
        return Stats(opened.record, counts, sequence)

    # --- namespaces --------------------------------------------------------------------------------------------------

    async def list_namespaces(
        self, index: str, *, prefix: str, token: str | None, limit: int | None, default_name: str = ""
    ) -> Namespaces:
        """A page of namespaces by rising name. `default_name` is what the default one is listed as."""
        opened = await self.indexes.open_index(index)
        sequence = opened.index.sequence
        after, limit = read_token(token, limit, default=DEFAULT_PAGE, highest=MAX_LIST)
        _check_prefix(prefix, checks.MAX_NAMESPACE)
        counts = {name or default_name: count for name, count in (await opened.index.namespaces()).items()}
        wanted = sorted(name for name in counts if name.startswith(prefix))
        rest = [name for name in wanted if after is None or name > after]
        page = rest[:limit]
        more = make_token(page[-1], limit) if len(rest) > limit else None
        schemas = await self.schemas.namespace_schemas(opened.record.id)
        found = [_namespace(name, counts[name], opened.record, sequence, schemas.get(name)) for name in page]
        return Namespaces(found, len(wanted), sequence, more)

    async def create_namespace(self, index: str, name: str, schema: Schema | None = None) -> Namespace:
        """Raises AlreadyExists."""
        opened = await self.indexes.open_index(index)
        checks.check_id(name, ("name",))  # the same rule as for ids
        checks.check_schema(schema)
        async with self._naming:
            if name in await opened.index.namespaces():
                raise AlreadyExists(f"Namespace {name!r} already exists")
            # First, so that a namespace that is there has its schema, whatever a crash leaves.
            await self.schemas.set_namespace_schema(opened.record.id, name, schema)
            return _namespace(name, 0, opened.record, await opened.index.create_namespace(name), schema)

    async def describe_namespace(self, index: str, name: str) -> Namespace:
        """Raises NotFound. The default namespace is always there."""
        opened = await self._open(index, name)
        sequence = opened.index.sequence
        count = await _count(opened.index, name)
        schema = (await self.schemas.namespace_schemas(opened.record.id)).get(name)
        return _namespace(name, count, opened.record, sequence, schema)

    async def delete_namespace(self, index: str, name: str) -> Written:
        """With all its records. Raises NotFound. The default namespace is always there."""
        opened = await self._open(index, name)
        async with self._naming:
            await _count(opened.index, name)
            # First, so that a new namespace of this name never has it.
            await self.schemas.set_namespace_schema(opened.record.id, name, None)
            return Written(await opened.index.delete_namespace(name))

    # --- search ------------------------------------------------------------------------------------------------------

    async def search(self, index: str, namespace: str, search: Search) -> SearchResult:
        """By a text that the index's model embeds, by a vector, or by an id; then reranked, if asked for."""
        opened = await self._open(index, namespace)
        sequence = opened.index.sequence
        texts.check_search(search, opened.record)
        checks.check_top_k(search.top_k, whole=False)
        values, sparse, tokens = search.values, search.sparse, None
        if search.text is not None:
            (values, sparse), tokens = await texts.embedded_query(search.text, opened.record, self.inference)
        query = VectorQuery(
            # What lacks a term is taken out afterwards, so all that may be found is looked at.
            top_k=search.top_k if search.terms is None else checks.MAX_TOP_K,
            id=search.id,
            values=values,
            sparse=sparse,
            filter=search.filter,
            with_metadata=True,
        )
        is_wordless = search.text is not None and sparse is not None and not sparse.indices.size
        asked = None if is_wordless else await _checked(opened, namespace, query)
        show = texts.shown(search, opened.record)
        found: list[Match] = []
        if asked is not None:
            most = self.limits.max_result_bytes
            found = await reads.find(opened.index, namespace, asked, most, show=show, top_k=search.top_k)
        hits = [Hit(match.record.id, match.score, match.record.metadata) for match in found]
        units = 1 + len(hits) // RECORDS_PER_READ_UNIT
        reranked = 0
        if search.rerank is not None:
            hits, reranked = await texts.reranked(hits, search, self.inference)
        model = None if tokens is None else texts.model_of(opened.record).model
        return SearchResult(hits, units, sequence, embed_tokens=tokens, reranked=reranked, model=model)

    async def _open(self, index: str, namespace: str) -> OpenIndex:
        opened = await self.indexes.open_index(index)
        checks.check_namespace(namespace)
        return opened


async def _checked(opened: OpenIndex, namespace: str, query: VectorQuery) -> Query | None:
    """None: it is by a record that is not there."""
    values, sparse = query.values, query.sparse
    if values is not None and values.size == 0 and (sparse is not None or query.id is not None):
        values = None
    if query.id is not None:
        if values is not None or sparse is not None:
            raise InvalidRequest("must not be given together with a vector", ("id",))
        checks.check_id(query.id, ("id",))
        record = (await opened.index.fetch(namespace, [query.id])).get(query.id)
        if record is None:
            return None
        values, sparse = record.values, record.sparse
    elif values is None and sparse is None:
        raise InvalidRequest("is required: a vector, or the id of a record", ("values",))
    else:
        if values is not None:
            # With the dot product and the distance zeros have a meaning: the vendors' own helper for hybrid queries
            # weighs the dense part by 0.
            zeros = opened.record.metric is not Metric.COSINE
            checks.check_dense([(("values",), values)], opened.record, allow_zeros=zeros)
        if sparse is not None:
            sparse = checks.checked_sparse(sparse, opened.record, ("sparse",))
    return Query(query.top_k, values, sparse, query.filter, query.with_values, query.with_metadata)


async def _count(index: Index, namespace: str) -> int:
    """How many records. Raises NotFound for an unknown namespace."""
    counts = await index.namespaces()
    if namespace and namespace not in counts:
        raise NotFound("Namespace not found", "namespace", namespace)
    return counts.get(namespace, 0)


def _namespace(name: str, count: int, record: IndexRecord, sequence: int, schema: Schema | None) -> Namespace:
    return Namespace(name, count, count * 4 * (record.dimension or 0), sequence, schema or record.schema)


def _check_merged(metadata: Metadata) -> None:
    checks.check_metadata_size(metadata, ("metadata",))


def _fetch_units(count: int) -> int:
    return max(1, -(-count // RECORDS_PER_READ_UNIT))


def _check_prefix(prefix: str, highest: int) -> None:
    if len(prefix) > highest:
        raise InvalidRequest(f"must have at most {highest} characters, and has {len(prefix)}", ("prefix",))
