"""What tests of Pinyon, and of things built on it, start from. Only tests import it."""

from __future__ import annotations

import hashlib
import zlib
from itertools import accumulate
from pathlib import Path

import numpy as np
import orjson
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from pinyon.catalog import Catalogue, ModelSpec
from pinyon.errors import InputTooLong, InvalidRequest
from pinyon.types import (
    EmbedDocumentsRequest,
    EmbedDocumentsResult,
    EmbedRequest,
    EmbedResult,
    Encoding,
    FloatArray,
    IntArray,
    RerankRequest,
    RerankResult,
    SparseEmbedding,
    SparseEmbedResult,
    Truncate,
)


class FakeEngine:
    """An engine without a model: each text gets a unit vector drawn from a seed of its own, one token a word.

    Deterministic, and honest about limits, so that services and dialects can be tested without weights. `calls` keeps
    every request. With `error` set, embedding raises it.
    """

    def __init__(self) -> None:
        self.calls: list[EmbedRequest] = []
        self.error: BaseException | None = None

    async def embed(self, spec: ModelSpec, request: EmbedRequest) -> EmbedResult:
        self.calls.append(request)
        if self.error is not None:
            raise self.error
        tokens = self._count(spec, request)
        dimension = request.dimension or spec.default_dimension or 8
        vectors = np.stack([fake_vector(text, dimension) for text in request.inputs])
        if request.encoding is Encoding.INT8:
            return EmbedResult(spec.name, np.rint(vectors * 127).astype(np.int8), tokens)
        if request.encoding is Encoding.BINARY:
            return EmbedResult(spec.name, np.packbits(vectors >= 0, axis=1, bitorder="little"), tokens)
        return EmbedResult(spec.name, vectors, tokens)

    async def embed_documents(self, spec: ModelSpec, request: EmbedDocumentsRequest) -> EmbedDocumentsResult:
        """Each chunk as a text that begins with the whole document, so that its neighbours show in its vector."""
        chunks = [f"{' '.join(one)} {text}" for one in request.documents for text in one]
        asked = EmbedRequest(request.model, chunks, dimension=request.dimension, encoding=request.encoding)
        result = await self.embed(spec, asked)
        tokens = np.array([sum(len(text.split()) for text in one) for one in request.documents], dtype=np.int32)
        highest = request.max_total_tokens
        if highest is not None and tokens.sum() > highest:
            reason = f"must hold at most {highest} tokens together, and holds {tokens.sum()}"
            raise InvalidRequest(reason, ("documents",))
        ends = accumulate(len(one) for one in request.documents)
        parts = [result.vectors[end - len(one) : end] for end, one in zip(ends, request.documents, strict=True)]
        return EmbedDocumentsResult(spec.name, parts, tokens)

    async def embed_sparse(self, spec: ModelSpec, request: EmbedRequest) -> SparseEmbedResult:
        """A term for each different word of letters, of value 1."""
        self.calls.append(request)
        if self.error is not None:
            raise self.error
        tokens = self._count(spec, request)
        embeddings = []
        for text in request.inputs:
            assert isinstance(text, str)
            terms = sorted((zlib.crc32(word.encode()), word) for word in set(text.split()) if word.isalpha())
            indices = np.array([index for index, _ in terms], np.uint32)
            words = [word for _, word in terms] if request.return_tokens else None
            embeddings.append(SparseEmbedding(indices, np.ones(len(terms), np.float32), words))
        return SparseEmbedResult(spec.name, embeddings, tokens)

    async def rerank(self, spec: ModelSpec, request: RerankRequest) -> RerankResult:
        """By how much of the query's words a document has."""
        if self.error is not None:
            raise self.error
        words = set(request.query.split())
        shares = [len(words & set(text.split())) / len(words) for text in request.documents]
        scores = np.array(shares, dtype=np.float32)
        tokens = sum(len(words) + len(text.split()) for text in request.documents)
        return RerankResult.ranked(spec.name, scores, scores, request.top_n, tokens)

    def _count(self, spec: ModelSpec, request: EmbedRequest) -> IntArray:
        """Words of each text, [inputs], by the request's limits."""
        own = 10**9 if request.reads_less else spec.max_tokens or 10**9
        limit = min(request.max_tokens or 10**9, own)
        counts = [len(text.split()) if isinstance(text, str) else len(text) for text in request.inputs]
        if request.truncate is Truncate.NONE:
            for position, count in enumerate(counts):
                if count > limit:
                    raise InputTooLong(count, limit, ("inputs", position))
        tokens = np.minimum(counts, limit).astype(np.int32)
        if request.max_total_tokens is not None and tokens.sum() > request.max_total_tokens:
            reason = f"must hold at most {request.max_total_tokens} tokens together, and holds {tokens.sum()}"
            raise InvalidRequest(reason, ("inputs",))
        return tokens


def fake_vector(text: object, dimension: int) -> FloatArray:
    """The unit vector, [dimension], that FakeEngine gives a text."""
    seed = int.from_bytes(hashlib.sha256(repr(text).encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def fake_catalogue(models_dir: Path, **aliases: str) -> Catalogue:
    """The built-in catalogue over an empty folder: only the bundled models are here."""
    return Catalogue.build(models_dir, aliases=aliases)


# A vocabulary for tiny models: enough to tell words, pieces and unknown ones apart.
TINY_WORDS = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "cat", "dog", "sat", "on", "mat", "red", "blue", "un",
    "##believ", "##able", "##s", "query", "passage", ":", ".", ",", "search", "one", "two", "three", "four", "five",
)  # fmt: skip


def tiny_bert(
    folder: Path,
    *,
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    positions: int = 64,
    pooling: str | None = "mean",
    normalise: bool = True,
    max_seq_length: int | None = None,
    prompts: dict[str, str] | None = None,
    prefix: str = "",
    hidden_act: str = "gelu",
    old_names: bool = False,
) -> Path:
    """Writes a BERT folder of random weights in Hugging Face and sentence-transformers layout; gives the folder.

    `pooling` None leaves out the sentence-transformers files. `prefix` stands before every weight's name, `old_names`
    calls layer normalisations as TensorFlow did.
    """
    rng = np.random.default_rng(seed)
    inner = hidden * 4
    weights: dict[str, FloatArray] = {}

    def put(name: str, *shape: int, around: float = 0.0) -> None:
        weights[prefix + name] = (around + 0.2 * rng.standard_normal(shape)).astype(np.float32)

    def put_norm(name: str) -> None:
        put(name + (".gamma" if old_names else ".weight"), hidden, around=1.0)
        put(name + (".beta" if old_names else ".bias"), hidden)

    def put_linear(name: str, outputs: int, inputs: int) -> None:
        put(name + ".weight", outputs, inputs)
        put(name + ".bias", outputs)

    put("embeddings.word_embeddings.weight", len(TINY_WORDS), hidden)
    put("embeddings.position_embeddings.weight", positions, hidden)
    put("embeddings.token_type_embeddings.weight", 2, hidden)
    put_norm("embeddings.LayerNorm")
    for layer in range(layers):
        block = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            put_linear(f"{block}attention.self.{part}", hidden, hidden)
        put_linear(block + "attention.output.dense", hidden, hidden)
        put_norm(block + "attention.output.LayerNorm")
        put_linear(block + "intermediate.dense", inner, hidden)
        put_linear(block + "output.dense", hidden, inner)
        put_norm(block + "output.LayerNorm")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": positions,
        "vocab_size": len(TINY_WORDS),
        "type_vocab_size": 2,
        "hidden_act": hidden_act,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
    _write_json(folder / "config.json", config)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizerFast", "model_max_length": positions, "do_lower_case": True}
        | {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")},
    )
    if max_seq_length is not None:
        _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_seq_length, "do_lower_case": False})
    if prompts is not None:
        _write_json(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
    if pooling is not None:
        steps = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
        paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
        _write_json(
            folder / "modules.json",
            [
                {"idx": n, "name": str(n), "path": paths[step], "type": f"sentence_transformers.models.{step}"}
                for n, step in enumerate(steps)
            ],
        )
        modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
        chosen = {"mean": "mean_tokens", "cls": "cls_token"}.get(pooling, pooling)
        _write_json(
            folder / "1_Pooling" / "config.json",
            {"word_embedding_dimension": hidden} | {f"pooling_mode_{mode}": mode == chosen for mode in modes},
        )
    return folder


def tiny_tokenizer() -> Tokenizer:
    """A BERT tokenizer over TINY_WORDS."""
    tokenizer = Tokenizer(WordPiece({word: n for n, word in enumerate(TINY_WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(value))
