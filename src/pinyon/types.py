"""Core requests and results: what the services take and give. No vendor's shape, no JSON, no HTTP.

Arrays are numpy; shapes stand beside each field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
IndexArray = npt.NDArray[np.uint32]

# A text, or the ids of its tokens (special tokens included or not, as the caller tokenised it).
Input = str | Sequence[int]


class Truncate(StrEnum):
    """What to do with a text that is longer than the model takes."""

    START = "START"  # drop tokens from the start
    END = "END"  # drop tokens from the end
    NONE = "NONE"  # refuse


class Encoding(StrEnum):
    """The numeric form of a dense vector."""

    FLOAT32 = "float32"
    INT8 = "int8"
    BINARY = "binary"  # a bit a dimension, least significant bit first


class Metric(StrEnum):
    """How near two vectors are. The score of a match, and which end is best:"""

    COSINE = "cosine"  # the cosine, highest first
    DOTPRODUCT = "dotproduct"  # the dot product, highest first
    EUCLIDEAN = "euclidean"  # the square of the distance, lowest first


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to vectors.

    `input_type` picks the model's prompt ("query", "passage"); None means no prompt. `dimension` None means the model's
    default. `max_tokens` lowers the model's own limit on a text. `max_total_tokens` bounds the sum over all inputs.
    With `reads_less` a text of up to `max_tokens` is taken, though the model may read less of it: the rest is left out,
    whatever `truncate` says, and counted.
    `dimension` and `encoding` are for dense models, `return_tokens` is for sparse ones.
    """

    model: str
    inputs: Sequence[Input]
    input_type: str | None = None
    truncate: Truncate = Truncate.END
    dimension: int | None = None
    encoding: Encoding = Encoding.FLOAT32
    max_tokens: int | None = None
    max_total_tokens: int | None = None
    return_tokens: bool = False
    reads_less: bool = False


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """`vectors` is [inputs, dimension] float32 or int8, or [inputs, dimension / 8] uint8 for Encoding.BINARY."""

    model: str
    vectors: npt.NDArray[np.float32] | npt.NDArray[np.int8] | npt.NDArray[np.uint8]
    tokens: IntArray  # [inputs], as the model saw them: after truncation, special tokens and prompt included
    cost: float = 0.0  # USD, by the operator's price list


@dataclass(frozen=True, slots=True)
class EmbedDocumentsRequest:
    """Documents to vectors of their chunks, each chunk in the context of its document, in whose order they are."""

    model: str
    documents: Sequence[Sequence[str]]
    dimension: int | None = None
    encoding: Encoding = Encoding.FLOAT32
    max_total_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class EmbedDocumentsResult:
    """`vectors` has [chunks, dimension] for each document, in the forms of EmbedResult."""

    model: str
    vectors: Sequence[npt.NDArray[np.float32] | npt.NDArray[np.int8] | npt.NDArray[np.uint8]]
    tokens: IntArray  # [documents], as the model saw them, separators included
    cost: float = 0.0  # USD, by the operator's price list


@dataclass(frozen=True, slots=True)
class SparseEmbedding:
    """One text as weighted terms. `indices` rise and are distinct; no value is 0. A text without terms gives an empty
    one."""

    indices: IndexArray  # [terms]: ids in the model's vocabulary, or hashes of the terms
    values: FloatArray  # [terms]
    tokens: list[str] | None = None  # [terms], the terms themselves, if the request wants them


@dataclass(frozen=True, slots=True)
class SparseEmbedResult:
    """What `embed_sparse` gives: an embedding for each input, in their order."""

    model: str
    embeddings: Sequence[SparseEmbedding]
    tokens: IntArray  # [inputs], as in EmbedResult
    cost: float = 0.0  # USD, by the operator's price list


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """A query against documents, each the text to rank by."""

    model: str
    query: str
    documents: Sequence[str]
    top_n: int | None = None
    truncate: Truncate = Truncate.END


@dataclass(frozen=True, slots=True)
class RerankResult:
    """Documents by falling score: `indices[i]` is a position in the request, `scores[i]` lies in [0, 1]."""

    model: str
    indices: npt.NDArray[np.int64]  # [results]
    scores: FloatArray  # [results]
    tokens: int

    @classmethod
    def ranked(
        cls, model: str, relevance: FloatArray, scores: FloatArray, top_n: int | None, tokens: int
    ) -> RerankResult:
        """The `top_n` first by `relevance` [documents], which falls as their scores do, but may tell more of them
        apart. Equals keep the request's order."""
        order = np.argsort(-relevance, kind="stable")[:top_n]
        return cls(model, order, scores[order], tokens)
