"""`pinyon embed`: a file of texts to a file of vectors, with the engine in this process and no server."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, get_args

import click

from pinyon.cli.settings import Failure, known_models, read_config, setting_options
from pinyon.cli.texts import Reader, Text, chunks
from pinyon.cli.vectors import Columns, OutputFormat, VectorWriter, see_all, whole_file, writer
from pinyon.errors import InvalidRequest

if TYPE_CHECKING:
    from pinyon.catalog import Catalogue, ModelSpec
    from pinyon.config import Config
    from pinyon.types import (
        EmbedDocumentsRequest,
        EmbedDocumentsResult,
        EmbedRequest,
        EmbedResult,
        RerankRequest,
        RerankResult,
        SparseEmbedResult,
    )

# What a part of the core's request is called here.
_FLAGS = {
    "model": "--model",
    "input_type": "--input-type",
    "dimension": "--dimension",
    "truncate": "--truncate",
    "encoding": "--encoding",
}
_SUFFIXES: dict[str, OutputFormat] = {".npy": "npy", ".parquet": "parquet", ".pq": "parquet"}


class ClosableEngine(Protocol):
    """The engine's verbs, and its end."""

    async def embed(self, spec: ModelSpec, request: EmbedRequest) -> EmbedResult: ...

    async def embed_documents(self, spec: ModelSpec, request: EmbedDocumentsRequest) -> EmbedDocumentsResult: ...

    async def embed_sparse(self, spec: ModelSpec, request: EmbedRequest) -> SparseEmbedResult: ...

    async def rerank(self, spec: ModelSpec, request: RerankRequest) -> RerankResult: ...

    async def close(self) -> None: ...


async def open_engine(config: Config, catalogue: Catalogue) -> ClosableEngine:
    """The engine of this command. Its queue is as long as it is asked to be: there is nobody else to turn away."""
    import msgspec

    from pinyon.engine.engine import Engine

    limits = msgspec.structs.replace(config.limits, max_queued_tokens=2**40)
    return Engine(catalogue, precision=config.precision, threads=config.threads, limits=limits)


@click.command()
@click.argument("source", metavar="[FILE|-]", default="-")
@click.option("-m", "--model", default="all-minilm-l6-v2", show_default=True, help="A model's name, or NAME=SOURCE.")
@click.option("--input-type", type=click.Choice(["query", "passage"]), help="Picks the model's prompt (none).")
@click.option("--dimension", type=click.IntRange(min=1), help="Of the vectors (the model's own).")
@click.option(
    "--truncate",
    type=click.Choice(["END", "START", "NONE"]),
    default="END",
    show_default=True,
    help="Which end of a long text is dropped; NONE refuses it.",
)
@click.option(
    "--encoding",
    type=click.Choice(["float32", "int8", "binary"]),
    default="float32",
    show_default=True,
    help="Numbers of the vectors; binary has 8 dimensions a byte, lowest bit first.",
)
@click.option(
    "--input-format",
    type=click.Choice(["auto", "lines", "jsonl"]),
    default="auto",
    show_default=True,
    help="A text a line, or a JSON object a line.",
)
@click.option("--field", default="text", show_default=True, help="The field of a JSON object that holds its text.")
@click.option("--skip-empty", is_flag=True, help="Leave empty texts out instead of stopping at the first one.")
@click.option("--keep-text", is_flag=True, help="Write the text beside its vector (JSONL and Parquet).")
@click.option("-o", "--output", metavar="FILE", default="-", help="Where the vectors go (stdout, as JSONL).")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(get_args(OutputFormat)),
    help="Of the output (by its suffix, else jsonl).",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 65536),
    default=2048,
    show_default=True,
    help="Texts handed to the engine, and held in memory, at a time.",
)
@setting_options("data_dir", "precision", "threads")
def embed(
    source: str,
    model: str,
    input_type: str | None,
    dimension: int | None,
    truncate: str,
    encoding: str,
    input_format: Literal["auto", "lines", "jsonl"],
    field: str,
    skip_empty: bool,
    keep_text: bool,
    output: str,
    output_format: OutputFormat | None,
    batch: int,
    **flags: Any,
) -> None:
    """Embed a file of texts, or stdin: a text a line, or a JSON object a line.

    Rows come out in the order of the input. Fields of a JSON object other than its text go with its vector. A file is
    read through before the model is loaded, so that a mistake in its last line does not cost the work before it.
    """
    from pinyon.types import EmbedRequest, Encoding, Truncate

    chosen = output_format or _SUFFIXES.get(Path(output).suffix.lower(), "jsonl")
    if chosen != "jsonl" and output == "-":
        raise click.UsageError(f"The {chosen} format needs a file to write to: --output FILE")
    if "=" in model:
        flags["models"] = (model,)
        model = model.partition("=")[0]
    config = read_config(**flags)
    known = known_models(config)
    spec = known.usable(model)
    reader = Reader(
        name="stdin" if source == "-" else source,
        format=None if input_format == "auto" else input_format,
        field=field,
        skip_empty=skip_empty,
        keep_text=keep_text,
    )
    with _named(reader):
        if spec.task != "embed":
            raise InvalidRequest(f"{model!r} is a reranking model, and makes no embeddings", ("model",))
        if spec.vector_type == "sparse":
            raise InvalidRequest(f"{model!r} gives sparse vectors, which no output format here holds", ("model",))
        if dimension is not None:
            spec.check_dimension(dimension, ("dimension",))
    columns = Columns()
    total: int | None = None
    if source != "-" and Path(source).is_file():
        with _opened(source) as file:
            total = see_all(columns, reader.read(file))
        if total == 0:
            raise Failure(f"{reader.name}: there is no text in it")

    def request(texts: list[Text]) -> EmbedRequest:
        return EmbedRequest(
            model=model,
            inputs=[text.text for text in texts],
            input_type=input_type,
            truncate=Truncate(truncate),
            dimension=dimension,
            encoding=Encoding(encoding),
        )

    with (
        _opened(source) as file,
        _written(output) as sink,
        contextlib.closing(writer(sink, chosen, columns)) as rows,
        _progress(total) as advance,
    ):
        _embed_all(config, known.catalogue, reader, file, batch, request, rows, advance)


def _embed_all(
    config: Config,
    catalogue: Catalogue,
    reader: Reader,
    file: BinaryIO,
    batch: int,
    request: Callable[[list[Text]], EmbedRequest],
    rows: VectorWriter,
    advance: Callable[[int], None],
) -> None:
    """Raises Failure for a wrong line, and for an input without any text."""
    from pinyon.services.inference import InferenceService

    # The input is read between the runs of the event loop, not in it: there Ctrl-C would have to wait for a line.
    with asyncio.Runner() as runner:
        engine = runner.run(open_engine(config, catalogue))
        service = InferenceService(catalogue, engine)
        is_empty = True
        try:
            for texts in chunks(reader.read(file), batch):
                with _named(reader, texts):
                    result = runner.run(service.embed(request(texts)))
                rows.write(texts, result)
                advance(len(texts))
                is_empty = False
        finally:
            runner.run(engine.close())
    if is_empty:
        raise Failure(f"{reader.name}: there is no text in it")


@contextlib.contextmanager
def _named(reader: Reader, texts: list[Text] | None = None) -> Iterator[None]:
    """Says of an input by its line, and of the rest by its flag, what is wrong with a request."""
    try:
        yield
    except InvalidRequest as error:
        match error.param:
            case ("inputs", int(position)) if texts is not None:
                place = f"{reader.name}, line {texts[position].line}: "
            case (str(part), *_):
                place = f"{_FLAGS.get(part, part)}: "
            case _:
                place = ""
        raise Failure(f"{place}{error.reason}") from None


@contextlib.contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 (only its opening is tried here)
    except OSError as error:
        raise Failure(f"{source}: cannot be read: {error.strerror}") from None
    with file:
        yield file


@contextlib.contextmanager
def _written(output: str) -> Iterator[BinaryIO]:
    if output == "-":
        yield sys.stdout.buffer
        return
    path = Path(output)
    if path.is_dir():
        raise Failure(f"{output}: is a folder, not a file to write to")
    with whole_file(path) as file:
        yield file


@contextlib.contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr if that is a terminal. `total` None: the number of texts is not known."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("embedding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("texts"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("embedding", total=total)
        yield lambda count: bar.advance(task, count)
