"""The engine as its callers see it: order, batches, limits, cancelling, loading, closing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinyon.catalog import Catalogue, ModelSpec
from pinyon.config import Limits
from pinyon.engine import backends, engine, memory
from pinyon.engine.bm25 import Bm25
from pinyon.engine.engine import Engine
from pinyon.engine.loader import describe
from pinyon.engine.running import LoadedModel
from pinyon.engine.scheduler import Scheduler
from pinyon.errors import InputTooLong, InvalidRequest, NotFound, Overloaded, Unavailable
from pinyon.http.metrics import Metrics
from pinyon.testing import TINY_WORDS, tiny_bert
from pinyon.types import EmbedRequest, Encoding, FloatArray, Truncate

WORDS = [word for word in TINY_WORDS if word.isalpha()]


def texts(count: int, seed: int = 0, longest: int = 40) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(1, longest)))) for _ in range(count)]


@asynccontextmanager
async def engine_over(
    *folders: Path, limits: Limits | None = None
) -> AsyncIterator[tuple[Engine, list[ModelSpec], Catalogue]]:
    specs = [describe(folder, folder.name) for folder in folders]
    catalogue = Catalogue.build(Path("/nonexistent"), specs)
    made = Engine(catalogue, precision="f32", threads=1, limits=limits)
    try:
        yield made, specs, catalogue
    finally:
        await made.close()


async def vectors(made: Engine, spec: ModelSpec, *inputs: str) -> FloatArray:
    result = await made.embed(spec, EmbedRequest(spec.name, inputs))
    return np.asarray(result.vectors, dtype=np.float32)


def test_a_text_alone_and_in_any_batch_has_the_same_vector(tmp_path: Path) -> None:
    async def check() -> None:
        async with engine_over(tiny_bert(tmp_path / "tiny")) as (made, [spec], _):
            many = texts(200)
            together = await vectors(made, spec, *many)
            shuffled = list(np.random.default_rng(1).permutation(len(many)))
            again = await vectors(made, spec, *(many[n] for n in shuffled))
            np.testing.assert_allclose(again, together[shuffled], atol=1e-5)
            for n in range(0, len(many), 9):
                alone = await vectors(made, spec, many[n])
                np.testing.assert_allclose(alone[0], together[n], atol=1e-5)

    asyncio.run(check())


def test_requests_at_once_each_get_their_own_vectors(tmp_path: Path) -> None:
    async def check() -> None:
        async with engine_over(tiny_bert(tmp_path / "tiny")) as (made, [spec], _):
            requests = [texts(1 + n % 7, seed=n) for n in range(60)]
            answers = await asyncio.gather(*(vectors(made, spec, *request) for request in requests))
            for request, answer in zip(requests[::7], answers[::7], strict=True):
                np.testing.assert_allclose(answer, await vectors(made, spec, *request), atol=1e-5)

    asyncio.run(check())


def test_several_models_at_once(tmp_path: Path) -> None:
    async def check() -> None:
        folders = [tiny_bert(tmp_path / f"tiny-{n}", seed=n, hidden=16 * (n + 1), heads=2) for n in range(3)]
        async with engine_over(*folders) as (made, specs, _):
            answers = await asyncio.gather(*(vectors(made, spec, *texts(5)) for spec in specs * 3))
            assert [answer.shape for answer in answers] == [(5, 16), (5, 32), (5, 48)] * 3
            np.testing.assert_allclose(answers[0], answers[3], atol=1e-5)

    asyncio.run(check())


def test_tokens_limits_and_encodings(tmp_path: Path) -> None:
    async def check() -> None:
        folder = tiny_bert(tmp_path / "tiny", max_seq_length=10)
        async with engine_over(folder) as (made, [spec], _):
            long = " ".join(["cat"] * 30)
            result = await made.embed(spec, EmbedRequest(spec.name, ["a cat", long, [5, 6]]))
            assert result.tokens.tolist() == [4, 10, 4]
            np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, atol=1e-5)
            with pytest.raises(InputTooLong) as caught:
                await made.embed(spec, EmbedRequest(spec.name, ["a", long], truncate=Truncate.NONE))
            assert (caught.value.tokens, caught.value.limit, caught.value.param) == (32, 10, ("inputs", 1))
            with pytest.raises(InvalidRequest, match="at most 13 tokens together"):
                await made.embed(spec, EmbedRequest(spec.name, ["a cat", long], max_total_tokens=13))
            short = await made.embed(spec, EmbedRequest(spec.name, [long], max_tokens=5))
            assert short.tokens.tolist() == [5]
            int8 = await made.embed(spec, EmbedRequest(spec.name, ["a cat"], encoding=Encoding.INT8))
            np.testing.assert_array_equal(int8.vectors[0], np.rint(result.vectors[0] * 127))
            bits = await made.embed(spec, EmbedRequest(spec.name, ["a cat"], encoding=Encoding.BINARY))
            np.testing.assert_array_equal(
                np.unpackbits(bits.vectors[0].astype(np.uint8), bitorder="little"), result.vectors[0] >= 0
            )

    asyncio.run(check())


def test_a_text_that_the_model_reads_less_of_is_counted_whole(tmp_path: Path) -> None:
    async def check() -> None:
        folder = tiny_bert(tmp_path / "tiny", max_seq_length=10)
        async with engine_over(folder) as (made, [spec], _):
            long = "the cat sat on the mat " * 5
            request = EmbedRequest(spec.name, ["a cat", long], max_tokens=40, reads_less=True, truncate=Truncate.NONE)
            result = await made.embed(spec, request)
            assert result.tokens.tolist() == [4, 32]
            np.testing.assert_allclose(result.vectors, await vectors(made, spec, "a cat", long), atol=1e-6)
            with pytest.raises(InputTooLong) as caught:
                await made.embed(spec, replace(request, max_tokens=31))
            assert (caught.value.tokens, caught.value.limit) == (32, 31)
            cut = await made.embed(spec, replace(request, max_tokens=31, truncate=Truncate.END))
            assert cut.tokens.tolist() == [4, 31]
            with pytest.raises(InvalidRequest, match="holds 36"):
                await made.embed(spec, replace(request, max_total_tokens=35))

    asyncio.run(check())


class Gate:
    """Holds a model's runs until it is opened, so that a test decides what happens meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.shapes: list[tuple[int, int]] = []
        self.error: Exception | None = None
        monkeypatch.setattr(engine, "_warm", lambda *args: None)
        original = backends.compile_model

        def compile_model(*args: Any, **options: Any) -> Any:
            compiled: Any = original(*args, **options)
            start = compiled.start

            def gated(batch: backends.TokenBatch) -> Callable[[], FloatArray]:
                wait: Callable[[], FloatArray] = start(batch)

                def held() -> FloatArray:
                    self.entered.set()
                    assert self.opened.wait(30)
                    if self.error is not None:
                        raise self.error
                    self.shapes.append((batch.ids.shape[0], batch.ids.shape[1]))
                    return wait()

                return held

            compiled.start = gated
            return compiled

        monkeypatch.setattr(backends, "compile_model", compile_model)


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 30)


def test_a_cancelled_request_leaves_the_queue_and_others_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        gate = Gate(monkeypatch)
        async with engine_over(tiny_bert(tmp_path / "tiny")) as (made, [spec], _):
            first = asyncio.create_task(vectors(made, spec, "a cat"))
            await entered(gate)
            # One batch more may be taken before the first is delivered; what comes behind waits in the queue.
            abandoned = [asyncio.create_task(vectors(made, spec, *texts(400, seed=n))) for n in range(2)]
            kept = asyncio.create_task(vectors(made, spec, "the dog"))
            async with made.using(spec, "dense") as model:
                pass
            while model.scheduler.queued_tokens < 1000:
                await asyncio.sleep(0)
            for task in abandoned:
                task.cancel()
            await asyncio.gather(*abandoned, return_exceptions=True)
            assert model.scheduler.queued_tokens <= 10
            gate.opened.set()
            assert (await first).shape == (1, 32)
            assert (await kept).shape == (1, 32)
            assert sum(rows for rows, _ in gate.shapes) < 100

    asyncio.run(check())


def test_a_full_queue_is_refused_with_a_time_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        gate = Gate(monkeypatch)
        limits = Limits(max_queued_tokens=100)
        async with engine_over(tiny_bert(tmp_path / "tiny"), limits=limits) as (made, [spec], _):
            first = asyncio.create_task(vectors(made, spec, "a cat"))
            await entered(gate)
            waiting = []
            with pytest.raises(Overloaded) as caught:
                for n in range(100):
                    task = asyncio.create_task(vectors(made, spec, *texts(3, seed=n, longest=20)))
                    waiting.append(task)
                    await asyncio.wait([task], timeout=0.01)
                    if task.done():
                        await task
            assert caught.value.retry_after > 0
            gate.opened.set()
            await first
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            assert sum(isinstance(answer, np.ndarray) for answer in answers) == len(waiting) - 1
            assert (await vectors(made, spec, "the dog")).shape == (1, 32)

    asyncio.run(check())


def test_a_run_that_fails_is_an_error_for_its_requests_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        gate = Gate(monkeypatch)
        async with engine_over(tiny_bert(tmp_path / "tiny")) as (made, [spec], _):
            gate.error = RuntimeError("secret detail")
            gate.opened.set()
            with pytest.raises(Unavailable) as caught:
                await vectors(made, spec, "a cat")
            assert "secret" not in caught.value.reason
            gate.error = None
            assert (await vectors(made, spec, "a cat")).shape == (1, 32)

    asyncio.run(check())


def test_requests_for_a_model_that_is_loading_load_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        loads = []
        original = Engine._load

        def counted(*args: Any) -> LoadedModel | Bm25:
            loads.append(1)
            return original(*args)

        monkeypatch.setattr(Engine, "_load", counted)
        async with engine_over(tiny_bert(tmp_path / "tiny")) as (made, [spec], _):
            await asyncio.gather(*(vectors(made, spec, "a cat") for _ in range(20)))
        assert len(loads) == 1

    asyncio.run(check())


def test_a_model_that_cannot_be_loaded_is_tried_again(tmp_path: Path) -> None:
    async def check() -> None:
        folder = tiny_bert(tmp_path / "tiny")
        weights = folder / "model.safetensors"
        async with engine_over(folder) as (made, [spec], _):
            weights.rename(tmp_path / "aside")
            for _ in range(2):
                with pytest.raises(Unavailable) as caught:
                    await vectors(made, spec, "a cat")
                assert str(tmp_path) not in caught.value.reason
                assert "model.safetensors: there is no such file" in str(caught.value.__cause__)
            (tmp_path / "aside").rename(weights)
            assert (await vectors(made, spec, "a cat")).shape == (1, 32)

    asyncio.run(check())


def test_a_model_whose_weights_are_not_here_names_the_command(tmp_path: Path) -> None:
    async def check() -> None:
        async with engine_over() as (made, _, catalogue):
            spec = catalogue.get("multilingual-e5-large")
            with pytest.raises(NotFound, match="pinyon models pull multilingual-e5-large"):
                await vectors(made, spec, "a cat")

    asyncio.run(check())


def test_closing_finishes_what_is_queued_and_refuses_what_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[None] = []
    add = Scheduler.add

    def counted(*args: Any) -> None:
        add(*args)
        added.append(None)

    monkeypatch.setattr(Scheduler, "add", counted)

    async def check() -> None:
        gate = Gate(monkeypatch)
        async with engine_over(tiny_bert(tmp_path / "tiny")) as (made, [spec], _):
            tasks = [asyncio.create_task(vectors(made, spec, *texts(50, seed=n))) for n in range(3)]
            await entered(gate)
            while len(added) < len(tasks):
                await asyncio.sleep(0)
            closing = asyncio.create_task(made.close())
            gate.opened.set()
            answers = await asyncio.gather(*tasks)
            assert [answer.shape for answer in answers] == [(50, 32)] * 3
            await closing
            with pytest.raises(Unavailable):
                await vectors(made, spec, "a cat")

    asyncio.run(check())


def test_the_observer_is_told_of_every_run(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int, int]] = []
    queues: list[str] = []
    loads: list[tuple[str, int]] = []

    class Notes:
        def loaded(self, model: str, memory_bytes: int, seconds: float) -> None:
            loads.append((model, memory_bytes))

        def load_failed(self, model: str) -> None:
            raise AssertionError

        def unloaded(self, model: str) -> None:
            raise AssertionError

        def watch_queue(self, model: str, tokens: Callable[[], float]) -> None:
            queues.append(model)
            assert tokens() == 0

        def ran_batch(self, model: str, rows: int, tokens: int, padded_tokens: int, seconds: float) -> None:
            assert seconds > 0
            seen.append((model, rows, tokens, padded_tokens))

    async def check() -> None:
        spec = describe(tiny_bert(tmp_path / "tiny"), "tiny")
        made = Engine(Catalogue.build(tmp_path, [spec]), precision="f32", threads=1, observer=Notes())
        result = await made.embed(spec, EmbedRequest("tiny", texts(100)))
        await made.close()
        assert sum(tokens for _, _, tokens, _ in seen) == result.tokens.sum()
        assert sum(rows for _, rows, _, _ in seen) == 100
        assert all(tokens <= padded <= 512 for _, _, tokens, padded in seen)

    asyncio.run(check())
    assert queues == ["tiny"]
    assert [model for model, _ in loads] == ["tiny"]


def test_models_come_and_go_by_the_memory_that_they_take(tmp_path: Path) -> None:
    async def check() -> None:
        folders = [tiny_bert(tmp_path / f"tiny-{n}", seed=n, hidden=16 * (n + 1), heads=2) for n in range(3)]
        specs = [describe(folder, folder.name) for folder in folders]
        catalogue = Catalogue.build(tmp_path, specs)
        metrics = Metrics()
        # Two of them at a time: each is counted with what its runs take.
        made = Engine(catalogue, precision="f32", threads=1, memory_budget=140_000_000, observer=metrics)
        alone = [await vectors(made, spec, "a cat", "the dog") for spec in specs]
        answers = await asyncio.gather(*(vectors(made, specs[n % 3], "a cat", "the dog") for n in range(30)))
        for n, answer in enumerate(answers):
            np.testing.assert_allclose(answer, alone[n % 3], atol=1e-5)
        shown = metrics.render().decode()
        assert shown.count("pinyon_model_memory_bytes{") == 2
        assert shown.count("pinyon_queued_tokens{") == 2
        assert 'pinyon_model_loads_total{model="tiny-0",status="loaded"}' in shown
        await made.close()
        too_small = Engine(catalogue, precision="f32", threads=1, memory_budget=50_000_000)
        with pytest.raises(Unavailable, match=r"needs about 0\.1 GB of memory"):
            await vectors(too_small, specs[0], "a cat")
        sparse = await too_small.embed_sparse(catalogue.get("bm25-english"), EmbedRequest("bm25-english", ["a cat"]))
        assert len(sparse.embeddings[0].indices) == 1
        await too_small.close()

    asyncio.run(check())


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_what_a_model_takes_is_about_what_is_counted(tmp_path: Path, precision: Any) -> None:
    """Of a child process, which loads a BERT of 29 million parameters and runs a batch."""
    folder = tiny_bert(tmp_path / "wide", hidden=768, layers=4, heads=12)
    counted = memory.model_bytes(memory.parameter_count(folder), precision)
    child = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), precision], capture_output=True, text=True, check=True
    )
    assert 0.6 < int(child.stdout) / counted < 1.1, (child.stdout, counted)


MEASURE = """
import asyncio, gc, sys
from pathlib import Path
from pinyon.catalog import Catalogue
from pinyon.engine.engine import Engine
from pinyon.engine.loader import describe
from pinyon.types import EmbedRequest
import openvino

def taken():
    lines = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
    return int(lines["VmRSS"].split()[0]) * 1024

async def main():
    spec = describe(Path(sys.argv[1]), "wide")
    made = Engine(Catalogue.build(Path("/nonexistent"), [spec]), precision=sys.argv[2], threads=1)
    before = taken()
    await made.embed(spec, EmbedRequest("wide", ["cat " * 30] * 16))
    gc.collect()
    print(taken() - before)
    await made.close()

asyncio.run(main())
"""
