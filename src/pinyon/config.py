"""What the operator may set, and where each setting comes from: flag > PINYON_* variable > pinyon.toml > default.

Lists are replaced whole by the stronger source. Mappings (models, aliases, prices, limits) are merged entry by entry,
and the stronger source wins for an entry that both have. Integrations stand in the file alone.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

Precision = Literal["auto", "f32", "bf16", "int8"]
LogFormat = Literal["text", "json"]
Positive = Annotated[int, msgspec.Meta(gt=0)]

ENV_PREFIX = "PINYON_"
DEFAULT_FILE = "pinyon.toml"


class ConfigError(Exception):
    """A setting is wrong. The text names the setting and where it came from."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what requests can make large. Section `[limits]` of the file."""

    max_body_bytes: Positive = 16 * 1024 * 1024
    max_message_bytes: Positive = 128 * 1024 * 1024  # of one message over gRPC
    max_held_bytes: Positive = 128 * 1024 * 1024  # of all bodies that are being answered together; past it, 429
    max_queued_tokens: Positive = 1_000_000  # over all requests that wait for one model; past it, 429
    max_connections: Positive = 4096
    max_upsert_bytes: Positive = 2 * 1024 * 1024  # of one upsert of vectors, as they are stored
    max_result_bytes: Positive = 4 * 1024 * 1024  # of what one query finds, as it is stored
    max_upsert_texts: Positive = 96  # records of one upsert of texts
    batch_tokens: Positive = 512  # tokens of one run of the model, padding included
    max_wait_ms: Positive = 2000  # bulk work gives way to short requests so long; then it gets half
    max_running_jobs: Positive = 2  # backups, restores, imports and collections at once; the others wait
    max_waiting_jobs: Positive = 1000  # past it, 429
    shutdown_seconds: Positive = 30  # what a request in flight is given after SIGTERM


class Integration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How imports get at an object store. Section `[integrations.NAME]` of the file.

    `env:NAME` instead of a key or token is read from that variable when it is needed.
    """

    kind: Literal["s3", "gcs", "azure"]
    endpoint_override: str = ""  # HOST:PORT, or http://HOST:PORT; "": the vendor's own
    region: str = ""  # of S3
    anonymous: bool = False
    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""
    account: str = ""  # of Azure
    account_key: str = ""
    sas_token: str = ""

    def __repr__(self) -> str:
        return f"Integration(kind={self.kind!r})"  # whoever prints a configuration prints no keys


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration. Names are those of the file; a flag has dashes, a variable is upper case."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 5080
    tls_cert: str = ""  # a file; with tls_key: what TLS is spoken with, on every port
    tls_key: str = ""
    data_dir: str = ""  # "": see `data_path`
    models: dict[str, str] = {}  # name -> local folder, or hub repository id with an optional @revision
    preload: tuple[str, ...] = ("all-minilm-l6-v2",)  # loaded and warmed before the server says it is ready
    precision: Precision = "auto"
    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0  # of the engine; 0: one a core
    memory_budget: str = "80%"  # of all loaded models together: a share of what there is, or a size
    api_keys: tuple[str, ...] = ()
    no_auth: bool = False
    offline: bool = False  # never fetch a model from the hub
    log_format: LogFormat = "text"
    indexes: bool = True  # serve the index APIs too; False: inference alone, and nothing is written to disk
    index_hosts: str = "ports"  # what clients are told: ports, path, or a URL with {index} in it
    index_ports: str = "5081-6080"  # the first and the last port that indexes may have
    state_url: str = ""  # "": `state.db` in the data folder
    backup_dir: str = ""  # a folder, or a URI in an object store; "": `backups` in the data folder
    import_roots: tuple[str, ...] = ()  # folders below which file:// imports may read
    integrations: dict[str, Integration] = {}  # name -> what an import's integrationId gives access to
    aliases: dict[str, str] = {}
    stand_ins: dict[str, str] = {}  # model -> the local one that is run in its place
    all_stand_ins: bool = False  # a bundled one for every model whose weights are not here
    prices: dict[str, float] = {}  # model -> USD a million tokens
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        for name, is_right in _CHECKS.items():
            if not is_right(getattr(self, name)):
                raise ValueError(f"{name}: must be {_EXPECTED[name]}")

    @property
    def data_path(self) -> Path:
        """Where models are kept: `data_dir`, or else the user's data folder (XDG_DATA_HOME). Raises ConfigError."""
        try:
            if self.data_dir:
                return Path(self.data_dir).expanduser()
            base = os.environ.get("XDG_DATA_HOME")
            return (Path(base) if base else Path.home() / ".local" / "share") / "pinyon"
        except RuntimeError:  # a container's user may have no home
            raise ConfigError("data_dir: this user has no home folder, name a folder for models: --data-dir") from None

    @property
    def scheme(self) -> str:
        """Of the URLs that clients are told."""
        return "https" if self.tls_cert else "http"

    @property
    def models_path(self) -> Path:
        return self.data_path / "models"

    @property
    def index_port_range(self) -> range:
        first, _, last = self.index_ports.partition("-")
        return range(int(first), int(last) + 1)

    @property
    def state(self) -> str:
        """The database of what the indexes are, as a URL. Raises ConfigError."""
        if self.state_url:
            return self.state_url
        return f"sqlite:///{self.data_path.absolute() / 'state.db'}"

    @property
    def backups(self) -> str:
        """Where backups and collections are kept: a folder, or the URI of one. Raises ConfigError."""
        return self.backup_dir or str(self.data_path / "backups")


# What a setting must be, as an error says it: "must be ...".
_EXPECTED: Mapping[str, str] = {
    "host": "an address or a host name",
    "port": "a whole number from 0 to 65535",
    "tls_cert": "a file",
    "tls_key": "a file",
    "data_dir": "a folder",
    "models": "names (letters, digits and . _ - / : @) with a folder or a hub repository each",
    "preload": "a list of model names",
    "precision": "auto, f32, bf16 or int8",
    "threads": "a whole number from 0 to 1024",
    "memory_budget": "a size such as 8GB or 500MB, or a share of the memory such as 80%",
    "api_keys": "a list of keys, each of one or more visible ASCII characters without spaces",
    "no_auth": "true or false",
    "offline": "true or false",
    "log_format": "text or json",
    "indexes": "true or false",
    "index_hosts": "ports, path, or a URL that begins with http:// or https:// and has {index} in it",
    "index_ports": "two ports from 1024 to 65535 as FIRST-LAST",
    "state_url": "a database's URL that begins with sqlite:// or postgresql://",
    "backup_dir": "a folder, or a URI that begins with s3://, gs:// or abfs://",
    "import_roots": "a list of folders",
    "integrations": "tables with a kind (s3, gcs or azure) and texts: endpoint_override, region, keys and tokens",
    "aliases": "names with the name of a model each",
    "stand_ins": "names of models with the name of a local one each",
    "all_stand_ins": "true or false",
    "prices": "model names with a number of USD a million tokens each, 0 or more",
    "limits": "a table of limits",
}
_MAPPINGS = frozenset({"models", "aliases", "stand_ins", "prices"})
# Settings that a flag or a variable of the singular name adds to, word by word.
_REPEATED = frozenset({"models", "stand_ins", "api_keys", "import_roots"})
# Tables that stand in the file alone, as a whole.
_TABLES = frozenset({"limits", "integrations"})
_SECRETS = frozenset({"backup_dir", "api_keys"})
# A model's name is part of a folder's name (see Catalogue.pulled_folder) and of a URL.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
_STORED = re.compile(r"(s3|gs|gcs|abfs|abfss)://[^/]")
# Without a slash at its end: clients put one there.
_TEMPLATE = re.compile(r"https?://(?=\S*\{index\})\S*[^\s/]")
_ENDPOINT = re.compile(r"((https?://)?[A-Za-z0-9.\-\[\]:]+)?")
_BUDGET = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?(%|MB|GB)")
_PORTS = re.compile(r"([0-9]{4,5})-([0-9]{4,5})")
_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "host": lambda host: bool(host) and host.isprintable() and " " not in host,
    "tls_cert": lambda path: "\0" not in path,
    "tls_key": lambda path: "\0" not in path,
    "data_dir": lambda folder: "\0" not in folder,
    "models": lambda models: all(_NAME.fullmatch(n) and s and "\0" not in s for n, s in models.items()),
    "preload": all,
    "api_keys": lambda keys: all(key and key.isascii() and key.isprintable() and " " not in key for key in keys),
    "memory_budget": lambda budget: bool(_BUDGET.fullmatch(budget)),
    "index_hosts": lambda hosts: hosts in ("ports", "path") or bool(_TEMPLATE.fullmatch(hosts)),
    "index_ports": lambda ports: _are_ports(ports),
    "state_url": lambda url: not url or url.startswith(("sqlite://", "postgresql://", "postgresql+")),
    "backup_dir": lambda where: "\0" not in where and ("://" not in where or bool(_STORED.match(where))),
    "import_roots": lambda roots: all(root and "\0" not in root for root in roots),
    "integrations": lambda integrations: all(map(_is_integration, integrations.values())),
    "aliases": lambda aliases: all(alias and target for alias, target in aliases.items()),
    "stand_ins": lambda stand_ins: all(name and local for name, local in stand_ins.items()),
    "prices": lambda prices: all(0 <= price < float("inf") for price in prices.values()),
}


def _is_integration(integration: Integration) -> bool:
    return _ENDPOINT.fullmatch(integration.endpoint_override) is not None


def _are_ports(text: str) -> bool:
    found = _PORTS.fullmatch(text)
    return found is not None and 1024 <= int(found[1]) <= int(found[2]) <= 65535


_FIELDS = {setting.name: setting for setting in msgspec.structs.fields(Config)}
_LIMITS = {limit.name: limit for limit in msgspec.structs.fields(Limits)}


def load(flags: Mapping[str, Any], environ: Mapping[str, str], path: Path | None = None) -> Config:
    """Merges the sources. `flags` holds only what was given on the command line, under the file's names; its values may
    be text, or lists of text.

    `path` None reads the file that PINYON_CONFIG names, else `pinyon.toml` of the working folder where there is one.
    Raises ConfigError.
    """
    merged: dict[str, Any] = {}
    for layer in (_read_file(find_file(environ, path)), _read_environ(environ), _read_flags(flags)):
        for name, value in layer.items():
            merged[name] = {**merged.get(name, {}), **value} if isinstance(value, dict) else value
    return Config(**{**merged, "limits": Limits(**merged.get("limits", {}))})


def find_file(environ: Mapping[str, str], path: Path | None = None) -> Path | None:
    """The file that `load` reads, None if it reads none. A file that was named is given whether or not it is there."""
    if path is not None:
        return path
    if named := environ.get(f"{ENV_PREFIX}CONFIG"):
        return Path(named)
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = msgspec.toml.decode(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    settings: dict[str, Any] = {}
    for name, value in values.items():
        _must_be_known(name, _FIELDS, f"{path}: ")
        settings[name] = _typed(name, value, f"{path}: {name}")
    # A relative folder in the file is relative to the file.
    if "models" in settings:
        settings["models"] = {name: _anchored(source, path.parent) for name, source in settings["models"].items()}
    if "import_roots" in settings:
        roots = settings["import_roots"]
        settings["import_roots"] = tuple(r if r.startswith("~") else str((path.parent / r).absolute()) for r in roots)
    for name in ("data_dir", "backup_dir", "tls_cert", "tls_key"):
        where = settings.get(name)
        if where and not where.startswith("~") and "://" not in where:
            settings[name] = str((path.parent / where).absolute())
    return settings


def _anchored(source: str, folder: Path) -> str:
    """A model's source as seen from `folder`. `org/name` is a folder if there is one there, else a hub id."""
    if source.startswith("~"):
        return source
    is_folder = source.startswith(("./", "../")) or (folder / source).is_dir()
    return str((folder / source).absolute()) if is_folder else source


def _read_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    """PINYON_* variables. An empty one counts as not set. Lists are split at white space, mappings are `NAME=VALUE`
    words."""
    settings: dict[str, Any] = {}
    for name in _FIELDS:
        variable = f"{ENV_PREFIX}{name.upper()}"
        if name in _TABLES:
            continue
        if text := environ.get(variable):
            settings[name] = _parsed(name, text.split() if _is_plural(name) else text, variable)
        # PINYON_MODEL and PINYON_API_KEY are named after the flags, which are repeated; they add to the plural ones.
        singular = f"{ENV_PREFIX}{name.removesuffix('s').upper()}"
        if name in _REPEATED and (text := environ.get(singular)):
            more = _parsed(name, text.split(), singular)
            listed = settings.get(name)
            if listed is not None:
                more = {**listed, **more} if name in _MAPPINGS else (*listed, *more)
            settings[name] = more
    limits: dict[str, int] = {}
    for name in _LIMITS:
        variable = f"{ENV_PREFIX}{name.upper()}"
        if text := environ.get(variable):
            limits[name] = _limit(text, variable, strict=False)
    if limits:
        settings["limits"] = limits
    return settings


def _read_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in flags.items():
        flag = "--" + (name.removesuffix("s") if name in _REPEATED else name).replace("_", "-")
        settings[name] = _parsed(name, value, flag)
    return settings


def _is_plural(name: str) -> bool:
    return name in _MAPPINGS or _FIELDS[name].type == tuple[str, ...]


def _parsed(name: str, value: Any, origin: str) -> Any:
    """A setting given as text, or as words where it is a list or a mapping."""
    if name in _MAPPINGS and isinstance(value, list | tuple):
        try:
            value = parse_models(value)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {error}") from None
    elif isinstance(value, str) and _FIELDS[name].type is bool:
        value = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(value.lower(), value)
    return _typed(name, value, origin, strict=False)


def _typed(name: str, value: Any, origin: str, *, strict: bool = True) -> Any:
    """The value as the setting's type. Raises ConfigError, which starts with `origin`."""
    if name == "limits" and isinstance(value, dict):
        for limit in value:
            _must_be_known(limit, _LIMITS, f"{origin}.")
        return {limit: _limit(number, f"{origin}.{limit}", strict=strict) for limit, number in value.items()}
    try:
        typed = msgspec.convert(value, _FIELDS[name].type, strict=strict)
    except msgspec.ValidationError:
        typed = None
    if typed is None or (name in _CHECKS and not _CHECKS[name](typed)):
        given = f", not {value!r}" if isinstance(value, str | int | float) and name not in _SECRETS else ""
        raise ConfigError(f"{origin}: must be {_EXPECTED[name]}{given}")
    return typed


def _limit(value: Any, origin: str, *, strict: bool) -> int:
    try:
        number: int = msgspec.convert(value, Positive, strict=strict)
    except msgspec.ValidationError:
        raise ConfigError(f"{origin}: must be a whole number above 0, not {value!r}") from None
    return number


def _must_be_known(name: str, known: Mapping[str, Any], origin: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"{origin}{name}: there is no such setting{hint}")


def parse_models(words: Sequence[str]) -> dict[str, str]:
    """`NAME=SOURCE` words as a mapping. Raises ConfigError."""
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, source = word.partition("=")
        if not (name and equals and source):
            raise ConfigError(f"{word!r} is not of the form NAME=SOURCE")
        pairs[name] = source
    return pairs
