"""`pinyon models`: which models there are, what each one is, and getting the weights of those that are not here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pinyon.catalog import Catalogue, ModelSpec
from pinyon.cli.settings import Failure, Known, known_models, read_config, setting_options
from pinyon.config import Config

_HEAD = ("NAME", "TASK", "TYPE", "DIMENSIONS", "MAX TOKENS", "LICENCE", "HERE")


@click.group()
def models() -> None:
    """List, show and pull models."""


@models.command("list")
@setting_options("data_dir", "models")
def list_models(**flags: Any) -> None:
    """All models that the server knows, and how to get those that are not here.

    A table on a terminal; else tab-separated lines, the first of them the columns' names.
    """
    known = known_models(read_config(**flags))
    rows = [_row(known, spec) for spec in known.catalogue.list()]
    if not sys.stdout.isatty():
        for row in (_HEAD, *rows):
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in _HEAD:
        table.add_column(head, overflow="fold", no_wrap=head == "NAME")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _row(known: Known, spec: ModelSpec) -> tuple[str, ...]:
    return (
        spec.name,
        spec.task,
        spec.vector_type or "",
        _dimensions(spec),
        "" if spec.max_tokens is None else str(spec.max_tokens),
        spec.license,
        _here(known, spec),
    )


def _dimensions(spec: ModelSpec) -> str:
    if spec.dimension_range is not None:
        return "{}-{}".format(*spec.dimension_range)
    return ",".join(map(str, spec.dimensions))


def _here(known: Known, spec: ModelSpec) -> str:
    """`yes`, or why not and what mends it."""
    if spec.name in known.problems:
        return "no: see pinyon models show " + spec.name
    if known.catalogue.is_here(spec):
        return "yes"
    source = spec.source
    if source is None:
        return "no public weights"
    return "no: make install" if source.package is not None else f"no: pinyon models pull {spec.name}"


@models.command("show")
@click.argument("name")
@setting_options("data_dir", "models", "precision", "memory_budget")
def show_model(name: str, **flags: Any) -> None:
    """What a model is, where its weights come from, where they are, and whether they fit into memory."""
    config = read_config(**flags)
    known = known_models(config)
    spec = known.catalogue.get(name)
    lines = {
        "name": spec.name if spec.name == name else f"{spec.name} (asked for as {name})",
        "description": spec.description,
        "task": spec.task,
        "type": spec.vector_type or "",
        "dimensions": _dimensions(spec),
        "default": "" if spec.default_dimension is None else str(spec.default_dimension),
        "max tokens": "" if spec.max_tokens is None else str(spec.max_tokens),
        "max batch": str(spec.max_batch),
        "metrics": ", ".join(spec.metrics),
        "provider": spec.provider,
        "licence": spec.license,
        "weights": _weights(known.catalogue, spec),
        "source": _source(known.catalogue, spec),
        "here": known.problems.get(spec.name) or _here(known, spec),
        **_on_disk(known, spec),
        "memory": _memory(config, known.catalogue, spec),
        "parameters": "\n".join(_parameter(parameter) for parameter in spec.parameters),
    }
    for label, text in lines.items():
        if text:
            click.echo(f"{label + ':':<14}" + text.replace("\n", "\n" + " " * 14))


def _source(catalogue: Catalogue, spec: ModelSpec) -> str:
    if spec.ranks_with is not None:
        return f"the embeddings of {spec.ranks_with}"
    source = spec.source
    if source is None:
        return ""
    if source.repository is not None:
        return f"hub repository {source.repository}, revision {source.revision}"
    return f"Python package {source.package}" if source.package is not None else f"folder {source.folder}"


def _weights(catalogue: Catalogue, spec: ModelSpec) -> str:
    count = (catalogue.specs[spec.ranks_with] if spec.ranks_with is not None else spec).parameter_count
    return "" if count is None else f"{count / 1e6:,.0f} million parameters"


def _on_disk(known: Known, spec: ModelSpec) -> dict[str, str]:
    from pinyon.engine import hub

    if not known.catalogue.is_here(spec):
        return {}
    folder = known.catalogue.folder(spec)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    pulled = hub.record(folder)
    return {
        "folder": str(folder),
        "size on disk": f"{size / 1e6:.1f} MB",
        "pulled from": "" if pulled is None else f"{pulled.repository} at commit {pulled.commit}",
    }


def _memory(config: Config, catalogue: Catalogue, spec: ModelSpec) -> str:
    """About how much it takes, and whether that is within the budget of `pinyon serve` with these settings."""
    from pinyon.engine import backends, bm25, memory

    carrier = catalogue.specs[spec.ranks_with] if spec.ranks_with is not None else spec
    precision = backends.choose_precision(config.precision, quantises=carrier.quantises)
    if catalogue.is_here(spec):
        folder = catalogue.folder(spec)
        if bm25.is_bm25(folder):
            return f"{bm25.MEMORY_BYTES / 1e6:.0f} MB at most"
        parameters = memory.parameter_count(folder)
    else:
        parameters = carrier.parameter_count or 0
    if not parameters:
        return ""
    needed = memory.model_bytes(parameters, precision)
    budget = memory.budget_bytes(config.memory_budget)
    text = f"about {needed / 1e9:.1f} GB in {precision}"
    if budget is None:
        return text
    verdict = "fits into" if needed <= budget else "does not fit into"
    return f"{text}, {verdict} the budget of {budget / 1e9:.1f} GB (memory_budget {config.memory_budget})"


def _parameter(parameter: Any) -> str:
    if parameter.kind == "one_of":
        values = " | ".join(map(str, parameter.allowed))
    elif parameter.kind == "numeric_range":
        values = f"{parameter.minimum} to {parameter.maximum}"
    else:
        values = "any"
    need = "required" if parameter.required else "" if parameter.default is None else f"default {parameter.default}"
    return f"{parameter.name} ({parameter.value_type}): {values}" + (f", {need}" if need else "")


@models.command("pull")
@click.argument("name", metavar="NAME|REPOSITORY[@REVISION]")
@setting_options("data_dir", "models", "offline")
def pull_model(name: str, **flags: Any) -> None:
    """Fetch a model's weights from the Hugging Face hub: safetensors, tokenizer and configuration files, no code."""
    from pinyon.engine import hub

    config = read_config(**flags)
    target = _target(config, name)
    if target is None:
        return
    repository, folder, served = target
    pulled = hub.pull(repository, folder, offline=config.offline)
    size = sum(pulled.files.values())
    click.echo(
        f"{repository} at commit {pulled.commit} is in {folder} ({len(pulled.files)} files, {size / 1e6:.1f} MB)"
    )
    _say_whether_it_runs(folder, served, repository)


def _target(config: Config, name: str) -> tuple[Any, Path, str | None] | None:
    """Which repository goes where, and under which name it is served (None: no name yet). None: nothing to pull."""
    from pinyon.engine import hub

    wanted, _, revision = name.partition("@")
    if name in config.models or wanted in config.models:
        wanted = name if name in config.models else wanted
        source = config.models[wanted]
        folder = hub.locate(source, config.models_path)
        if folder is not None and hub.record(folder) is None:
            click.echo(f"{wanted} is already here: {folder}")
            return None
        repository = hub.parse(source)
        return repository, hub.folder_of(config.models_path, repository), wanted
    catalogue = Catalogue.build(config.models_path, aliases=config.aliases)
    spec = catalogue.specs.get(config.aliases.get(wanted, wanted))
    if spec is None:  # a repository that the catalogue has under a name of its own
        spec = next((s for s in catalogue.list() if s.source is not None and s.source.repository == wanted), None)
    if spec is None:
        repository = hub.parse(name)
        return repository, hub.folder_of(config.models_path, repository), None
    if spec.ranks_with is not None:
        spec = catalogue.get(spec.ranks_with)
    if spec.source is None:
        raise Failure(f"{spec.name} has no public weights: give its name to a model of yours under [aliases]")
    if spec.source.repository is None:
        click.echo(f"{spec.name} is already here: {catalogue.folder(spec)}")
        return None
    repository = hub.Repository(spec.source.repository, revision or spec.source.revision)
    return repository, catalogue.pulled_folder(spec.name), spec.name


def _say_whether_it_runs(folder: Path, served: str | None, repository: Any) -> None:
    from pinyon.engine.loader import ModelError, describe

    name = served or str(repository).partition("/")[2].partition("@")[0].lower() or str(repository)
    try:
        describe(folder, name)
    except ModelError as error:
        click.echo(f"It cannot be served yet: {error}", err=True)
        return
    if served is None:
        click.echo(f"Serve it with: pinyon serve --model {name}={repository}")
