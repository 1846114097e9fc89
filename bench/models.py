"""Every architecture at a realistic width, with random weights: tokens a second of a batch of 512 tokens, beside
transformers in float32 in the same process, and as a share of the machine's best bf16 matrix product.

A smaller vocabulary than the real models' saves time and memory: looking up a row costs the same in either.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from bench.figures import Aim, Figures

BUNDLED = "all-minilm-l6-v2"
VOCABULARY = 8192
ROWS, TOKENS = 8, 64


@dataclass(frozen=True, slots=True)
class Shape:
    """`classes` are transformers' model and config. `flops` are of the products for one token, attention apart."""

    classes: tuple[str, str]
    settings: dict[str, Any]
    flops: float
    attended: int  # heads * head_dim * layers
    note: str = ""


def _encoder(dim: int, layers: int, inner: int, products: int = 2) -> tuple[float, int]:
    """Of a block with four square products and `products` with the inner size."""
    return layers * 2 * (4 * dim * dim + products * dim * inner), dim * layers


def _common(dim: int, layers: int, heads: int, inner: int) -> dict[str, Any]:
    return {"hidden_size": dim, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner}


def _grouped(layers: int, dim: int, heads: int, pairs: int, head: int, inner: int) -> tuple[float, int]:
    return layers * 2 * (2 * dim * head * (heads + pairs) + 3 * dim * inner), heads * head * layers


SHAPES: dict[str, Shape] = {
    "xlm-roberta": Shape(
        ("XLMRobertaModel", "XLMRobertaConfig"),
        _common(1024, 24, 16, 4096) | {"max_position_embeddings": 514, "type_vocab_size": 1},
        *_encoder(1024, 24, 4096), "multilingual-e5-large, bge-m3, bge-reranker-v2-m3",
    ),
    "qwen3": Shape(
        ("Qwen3Model", "Qwen3Config"),
        _common(1024, 28, 16, 3072) | {"num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 32768},
        *_grouped(28, 1024, 16, 8, 128, 3072), "pplx-embed-v1-0.6b, Qwen3-Embedding-0.6B",
    ),
    "llama": Shape(
        ("LlamaModel", "LlamaConfig"),
        _common(2048, 4, 32, 8192) | {"num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 8192},
        *_grouped(4, 2048, 32, 8, 64, 8192), "llama-nemotron-embed-1b-v2, 4 of its 16 layers",
    ),
    "modernbert": Shape(
        ("ModernBertModel", "ModernBertConfig"),
        _common(1024, 28, 16, 2624) | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1,
                                      "sep_token_id": 2},
        *_encoder(1024, 28, 2624, 3), "ModernBERT-large",
    ),
    "nomic_bert": Shape(
        ("NomicBertModel", "NomicBertConfig"), _common(768, 12, 12, 3072), *_encoder(768, 12, 3072, 3),
        "nomic-embed-text-v1.5",
    ),
    "mpnet": Shape(
        ("MPNetModel", "MPNetConfig"), _common(768, 12, 12, 3072) | {"max_position_embeddings": 514},
        *_encoder(768, 12, 3072), "all-mpnet-base-v2",
    ),
    "distilbert": Shape(
        ("DistilBertModel", "DistilBertConfig"), {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072},
        *_encoder(768, 6, 3072), "distilbert-base",
    ),
}  # fmt: skip


def flops(shape: Shape) -> float:
    """Of one token in a text of TOKENS tokens."""
    return shape.flops + 4 * shape.attended * TOKENS


def run(name: str, rounds: int = 5) -> dict[str, float]:
    """Best times of both, in turns; in a process of its own."""
    import torch
    import transformers

    from pinyon.engine.backends import TokenBatch, openvino
    from pinyon.engine.engine import compile_folder
    from pinyon.engine.loader import SafetensorsWeights, read_folder

    shape = SHAPES[name]
    torch.manual_seed(0)
    torch.set_num_threads(openvino.cores())
    config = getattr(transformers, shape.classes[1])(vocab_size=VOCABULARY, **shape.settings)
    with torch.device("cpu"):
        model = getattr(transformers, shape.classes[0])(config).eval()
    ids = np.random.default_rng(0).integers(10, VOCABULARY, (ROWS, TOKENS)).astype(np.int32)
    batch = TokenBatch.of(ids)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model.to(torch.bfloat16).save_pretrained(place)
        model.to(torch.float32)
        (place / "tokenizer.json").write_text("{}")  # not used: the batch is token ids
        files = read_folder(place)
        weights = SafetensorsWeights(place, files.architecture.prefix)
        own = compile_folder(files, weights, precision="bf16", threads=0)
        given = torch.tensor(ids.astype(np.int64))
        attention = torch.ones_like(given)

        def peer() -> Any:
            with torch.inference_mode():
                return model(input_ids=given, attention_mask=attention).last_hidden_state

        calls: dict[str, Callable[[], Any]] = {"own": lambda: own.start(batch)().copy(), "peer": peer}
        best = dict.fromkeys(calls, float("inf"))
        matrix = 0.0
        for turn in range(rounds + 1):
            matrix = max(matrix, machine.matrix_rate("bf16", rounds=3))
            for side, call in calls.items():
                started = time.perf_counter()
                call()
                if turn:  # the first is for warming up
                    best[side] = min(best[side], time.perf_counter() - started)
    return {side: ROWS * TOKENS / seconds for side, seconds in best.items()} | {"matrix": matrix}


def quantised(rounds: int = 10) -> dict[str, float]:
    """int8 beside bf16 and f32, in turns: a batch's rate, and the lowest cosine to f32 over all texts of the corpus."""
    from bench.texts import paragraphs
    from pinyon.catalog import Catalogue
    from pinyon.engine.backends import Precision, TokenBatch
    from pinyon.engine.encoding import unit
    from pinyon.engine.engine import compile_folder
    from pinyon.engine.loader import SafetensorsWeights, read_folder
    from pinyon.engine.tokenizer import Tokenizer
    from pinyon.types import Truncate

    known = Catalogue.build(Path("/nonexistent"))
    place = known.folder(known.get(BUNDLED))
    files = read_folder(place)
    weights = SafetensorsWeights(place, files.architecture.prefix)
    precisions: tuple[Precision, ...] = ("f32", "bf16", "int8")
    models = {name: compile_folder(files, weights, precision=name, threads=0) for name in precisions}
    tokenizer = Tokenizer(files.tokenizer_path, files.vocabulary(weights))
    texts = tokenizer.encode(paragraphs(), prompt="", max_tokens=files.max_tokens, truncate=Truncate.END)
    lowest = dict.fromkeys(models, 1.0)
    for ids in texts:
        row = np.ascontiguousarray(ids[None])
        vectors = {name: unit(model.start(TokenBatch.of(row))()) for name, model in models.items()}
        for name, vector in vectors.items():
            lowest[name] = min(lowest[name], float((vector * vectors["f32"]).sum()))
    batch = TokenBatch.of(np.random.default_rng(0).integers(1000, 20000, (16, 32)).astype(np.int32))
    best = dict.fromkeys(models, float("inf"))
    for _ in range(rounds):
        for name, model in models.items():
            for _ in range(3):
                started = time.perf_counter()
                model.start(batch)()
                best[name] = min(best[name], time.perf_counter() - started)
    return {f"{name} rate": batch.ids.size / seconds for name, seconds in best.items()} | {
        f"{name} cosine": cosine for name, cosine in lowest.items()
    }


def measure(figures: Figures) -> list[Aim]:
    figures.heading(f"{BUNDLED}: int8")
    found = _apart(BUNDLED)
    for name in ("f32", "bf16", "int8"):
        figures.add(f"{BUNDLED}, {name}, tokens/s", found[f"{name} rate"])
    aims = [
        Aim(f"{BUNDLED}, int8 against bf16", found["int8 rate"] / found["bf16 rate"], 1),
        Aim(f"{BUNDLED}, int8, lowest cosine to f32", found["int8 cosine"], 0.995),
    ]
    for name, shape in SHAPES.items():
        figures.heading(f"{name}: {shape.note}")
        found = _apart(name)
        figures.add(f"{name}, tokens/s", found["own"])
        figures.add(f"{name}, transformers fp32, tokens/s", found["peer"])
        figures.add(f"{name}, matrix bf16, GFLOP/s", found["matrix"] / 1e9)
        aims += [
            Aim(f"{name}, bf16, against transformers fp32", found["own"] / found["peer"], 3),
            Aim(f"{name}, share of the bf16 matrix rate", found["own"] * flops(shape) / found["matrix"], 0.7),
        ]
    return aims


def _apart(name: str) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "bench.models", name]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(json.dumps(quantised() if sys.argv[1] == BUNDLED else run(sys.argv[1])))
