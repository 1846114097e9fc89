"""What the commands share: flags that are settings, the configuration they make, and the catalogue it makes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from pinyon.catalog import Catalogue, ModelSpec, Source, builtin_specs
from pinyon.config import Config, ConfigError, load
from pinyon.errors import Unavailable

Command = TypeVar("Command", bound=Callable[..., Any])


class Failure(Exception):
    """Ends a command with one sentence and exit status 1."""


# All values are text here: `config.load` is the one place that reads them, whichever source they come from.
_OPTIONS: Mapping[str, tuple[tuple[str, ...], Mapping[str, Any]]] = {
    "host": (("--host",), {"help": "Address to listen on (127.0.0.1)."}),
    "port": (("--port",), {"help": "Port to listen on (5080); 0 takes any free one."}),
    "tls_cert": (("--tls-cert",), {"metavar": "FILE", "help": "A certificate, its chain included, to speak TLS too."}),
    "tls_key": (("--tls-key",), {"metavar": "FILE", "help": "The certificate's key."}),
    "data_dir": (("--data-dir",), {"metavar": "DIR", "help": "Where pulled models are kept (~/.local/share/pinyon)."}),
    "models": (
        ("--model", "models"),
        {"multiple": True, "metavar": "NAME=SOURCE", "help": "Add a model: a folder, or a hub id with @revision."},
    ),
    "stand_ins": (
        ("--stand-in", "stand_ins"),
        {
            "multiple": True,
            "metavar": "MODEL=LOCAL",
            "help": "Run a local model under another one's name, for development.",
        },
    ),
    "all_stand_ins": (
        ("--stand-ins", "all_stand_ins"),
        {"is_flag": True, "default": None, "help": "Bundled stand-ins for all models whose weights are not here."},
    ),
    "precision": (("--precision",), {"metavar": "auto|f32|bf16|int8", "help": "Of the model's arithmetic (auto)."}),
    "threads": (("--threads",), {"help": "Threads of the engine (0: one a core)."}),
    "memory_budget": (
        ("--memory-budget",),
        {"metavar": "SIZE|SHARE", "help": "For all loaded models together (80%): 8GB, 500MB, 50%."},
    ),
    "api_keys": (
        ("--api-key", "api_keys"),
        {"multiple": True, "metavar": "KEY", "help": "A key that clients may use."},
    ),
    "no_auth": (
        ("--no-auth",),
        {"is_flag": True, "default": None, "help": "Take requests from anywhere without a key."},
    ),
    "index_hosts": (
        ("--index-hosts",),
        {"metavar": "ports|path|TEMPLATE", "help": "Where clients find an index (ports); see the docs."},
    ),
    "indexes": (
        ("--no-indexes", "indexes"),
        {"is_flag": True, "flag_value": False, "default": None, "help": "Serve inference alone, and write nothing."},
    ),
    "backup_dir": (("--backup-dir",), {"metavar": "DIR|URI", "help": "Where backups are kept (backups/ of the data)."}),
    "import_roots": (
        ("--import-root", "import_roots"),
        {"multiple": True, "metavar": "DIR", "help": "A folder below which file:// imports may read."},
    ),
    "offline": (("--offline",), {"is_flag": True, "default": None, "help": "Never fetch anything from the hub."}),
    "log_format": (("--log-format",), {"metavar": "text|json", "help": "Form of the log lines (text)."}),
}


def setting_options(*names: str) -> Callable[[Command], Command]:
    """Gives a command `--config` and the flags of these settings. It gets them as keywords, for `read_config`."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            declarations, attributes = _OPTIONS[name]
            command = click.option(*declarations, **attributes)(command)
        path = click.Path(path_type=Path)
        return click.option("--config", "config_path", type=path, metavar="FILE", help="Settings (./pinyon.toml).")(
            command
        )

    return decorate


def read_config(config_path: Path | None, **flags: Any) -> Config:
    """The configuration of a command whose flags these are; a flag that was not given is None or empty.

    Raises ConfigError.
    """
    config = load(given(flags), os.environ, config_path)
    _check_names(config)
    return config


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Only the flags that were given."""
    return {name: value for name, value in flags.items() if value is not None and value != ()}


def _check_names(config: Config) -> None:
    """Settings that name models must name ones that there are. Raises ConfigError."""
    names = {spec.name for spec in builtin_specs()} | config.models.keys()
    for alias, target in config.aliases.items():
        if target not in names:
            raise ConfigError(f"aliases: {alias!r} points at {target!r}, which is not a model of this server")
    for model, local in config.stand_ins.items():
        for name in (model, local):
            if name not in names:
                raise ConfigError(f"stand_ins: {name!r} is not a model of this server")
    for setting, named in (("preload", config.preload), ("prices", config.prices)):
        for name in named:
            if config.aliases.get(name, name) not in names:
                raise ConfigError(f"{setting}: {name!r} is not a model of this server")


@dataclass(frozen=True, slots=True)
class Known:
    """Every model that a configuration knows. `problems` says of the operator's models what is wrong with them."""

    catalogue: Catalogue
    problems: Mapping[str, str]

    def usable(self, name: str) -> ModelSpec:
        """The model of this name or alias, its weights here and readable. Raises NotFound, Unavailable."""
        spec = self.catalogue.get(name)
        if spec.name in self.problems:
            raise Unavailable(self.problems[spec.name])
        self.catalogue.folder(spec)
        return spec


def known_models(config: Config) -> Known:
    """The built-in catalogue and the operator's models, without touching the network."""
    from pinyon.engine import hub
    from pinyon.engine.loader import ModelError, describe

    extra: list[ModelSpec] = []
    problems: dict[str, str] = {}
    for name, source in config.models.items():
        try:
            folder = hub.locate(source, config.models_path)
            if folder is not None:
                extra.append(describe(folder, name))
                continue
            repository = hub.parse(source)
            where: Source | None = Source(repository=repository.id, revision=repository.revision)
        except (ModelError, Unavailable) as error:
            problems[name] = f"Model {name!r}: {error}"
            where = None
        extra.append(
            ModelSpec(
                name=name,
                task="embed",
                vector_type="dense",
                description=f"A model of this server: {source}.",
                provider="local",
                license="as its repository says",
                source=where,
            )
        )
    return Known(Catalogue.build(config.models_path, extra, config.aliases), problems)


def with_folders(config: Config) -> Config:
    """The configuration with a folder for every model, those pulled from the hub that are not here yet.

    Raises ConfigError for a source that is nothing, Unavailable for one that cannot be pulled.
    """
    import msgspec

    from pinyon.engine import hub

    folders = {}
    for name, source in config.models.items():
        try:
            folder = hub.locate(source, config.models_path)
        except Unavailable as error:
            raise ConfigError(f"models: {name}: {error}") from None
        folders[name] = str(folder or hub.ensure(source, config.models_path, offline=config.offline))
    return msgspec.structs.replace(config, models=folders)
