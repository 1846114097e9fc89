"""What the stores are measured with: clustered vectors, metadata whose filters keep known parts, and the exact answers.

Knows no store, and imports nothing but numpy: the peers run in an environment of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

DIMENSION = 384
TOP_K = 10
# Field of strings -> how many values it has: a filter for one of them keeps one part in so many.
VALUES = {"colour": 2, "shop": 20, "maker": 200, "lot": 2000}
RANK = "rank"  # a field of numbers, each from 0 to the count once: `$lt` keeps as many as one likes
PARTS = (0.5, 0.05, 0.005, 0.0005)  # what the filters keep, in the order of VALUES
# As hard to search as real embeddings: of 3,000 vectors the median local intrinsic dimension (20 neighbours) is 17.7,
# and 17.2 for the paragraphs of texts.py as all-MiniLM-L6-v2 embeds them. Clusters further apart are far easier.
_CLUSTERS = 1000
_LATENT = 40  # dimensions that the clusters are in
_SPREAD = 0.9  # of a cluster, in parts of the centres' own spread
_NOISE = 0.02  # in every dimension: vectors are about 8.5 long
_BLOCK = 200  # queries scored at once

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Filter:
    """One of metadata. `value` is a string that `field` equals, or a number that it is less than."""

    part: float  # of the records that it keeps, about
    field: str
    value: str | int

    @property
    def name(self) -> str:
        return f"{'<' if isinstance(self.value, int) else '='} {self.part:.2%}"

    def pinecone(self) -> dict[str, object]:
        """As Pinecone's filter; Chroma's is the same."""
        return {self.field: {"$lt" if isinstance(self.value, int) else "$eq": self.value}}


@dataclass(frozen=True, slots=True)
class Data:
    vectors: Floats  # [n, DIMENSION], of lengths other than 1
    queries: Floats  # [q, DIMENSION]
    fields: dict[str, Numbers]  # of VALUES and RANK: [n]

    def id(self, row: int) -> str:
        return f"record-{row:06d}"

    def row(self, id: str) -> int:
        return int(id.rpartition("-")[2])

    def metadata(self, row: int) -> dict[str, str | int]:
        texts: dict[str, str | int] = {field: f"{field}-{self.fields[field][row]}" for field in VALUES}
        return texts | {RANK: int(self.fields[RANK][row])}

    def filters(self) -> list[Filter]:
        """For each part two: by a string, and by a range of numbers."""
        count = len(self.vectors)
        texts = [Filter(1 / size, field, f"{field}-{self.fields[field][0]}") for field, size in VALUES.items()]
        return texts + [Filter(part, RANK, max(1, round(part * count))) for part in PARTS]

    def kept(self, filter: Filter) -> npt.NDArray[np.bool_]:
        """Which records a filter keeps. [n]"""
        column = self.fields[filter.field]
        if isinstance(filter.value, int):
            return np.less(column, filter.value)
        return np.equal(column, int(filter.value.rpartition("-")[2]))

    def nearest(self, queries: Floats, filter: Filter | None = None) -> list[list[int]]:
        """Rows of the TOP_K records of largest cosine, exactly; fewer where the filter keeps fewer."""
        rows = np.arange(len(self.vectors)) if filter is None else np.flatnonzero(self.kept(filter))
        kept = units(self.vectors[rows])
        found: list[list[int]] = []
        for at in range(0, len(queries), _BLOCK):
            cosines = units(queries[at : at + _BLOCK]) @ kept.T
            best = np.argsort(-cosines, axis=1)[:, :TOP_K]
            found += [[int(rows[place]) for place in places] for places in best]
        return found

    def save(self, folder: Path) -> None:
        np.save(folder / "vectors.npy", self.vectors)
        np.save(folder / "queries.npy", self.queries)
        for field, column in self.fields.items():
            np.save(folder / f"field-{field}.npy", column)

    @staticmethod
    def load(folder: Path) -> Data:
        fields = {field: np.load(folder / f"field-{field}.npy") for field in [*VALUES, RANK]}
        return Data(np.load(folder / "vectors.npy"), np.load(folder / "queries.npy"), fields)


def make(count: int, queries: int, seed: int = 0) -> Data:
    """The same for the same arguments, everywhere."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((_CLUSTERS, _LATENT), dtype=np.float32)
    basis = np.linalg.qr(random.standard_normal((DIMENSION, _LATENT)))[0].astype(np.float32)

    def draw(n: int) -> Floats:
        cluster = random.integers(_CLUSTERS, size=n)
        latent = centres[cluster] + _SPREAD * random.standard_normal((n, _LATENT), dtype=np.float32)
        rows: Floats = latent @ basis.T + _NOISE * random.standard_normal((n, DIMENSION), dtype=np.float32)
        return rows

    fields = {field: random.integers(size, size=count) for field, size in VALUES.items()}
    fields[RANK] = random.permutation(count)
    return Data(draw(count), draw(queries), fields)


def recall(found: Sequence[Sequence[int]], exact: Sequence[Sequence[int]]) -> float:
    """The mean part of the exact answers that was found."""
    parts = [len(set(some) & set(right)) / len(right) for some, right in zip(found, exact, strict=True) if right]
    return sum(parts) / len(parts)


def units(vectors: Floats) -> Floats:
    """Of length 1. [n, DIMENSION]"""
    scaled: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled
