"""`pinyon serve`: checks what can be checked before listening, then hands over to `pinyon.app`."""

from __future__ import annotations

import errno
import socket
from typing import Any

import click

from pinyon.cli.settings import Failure, read_config, setting_options, with_folders
from pinyon.config import Config, ConfigError

# What the system says when an address cannot be had. Any other OSError is not about listening.
_CANNOT_LISTEN = {
    errno.EADDRINUSE: "something else listens there, choose another with --port",
    errno.EADDRNOTAVAIL: "this machine does not have that address, choose another with --host",
    errno.EACCES: "this user may not listen there, choose a port above 1023 with --port",
    errno.EAFNOSUPPORT: "this machine does not have that kind of address, choose another with --host",
}


@click.command()
@setting_options(
    "host",
    "port",
    "tls_cert",
    "tls_key",
    "data_dir",
    "models",
    "stand_ins",
    "all_stand_ins",
    "precision",
    "threads",
    "memory_budget",
    "api_keys",
    "no_auth",
    "offline",
    "log_format",
    "index_hosts",
    "indexes",
    "backup_dir",
    "import_roots",
)
def serve(**flags: Any) -> None:
    """Answer the vendors' APIs until SIGTERM or Ctrl-C."""
    config = read_config(**flags)
    check_exposure(config)
    config = with_folders(config)
    from pinyon.app import run
    from pinyon.http.logging import configure

    configure(config.log_format)
    try:
        run(config)
    except socket.gaierror:
        raise ConfigError(f"host: {config.host!r} is not an address that can be listened on") from None
    except OSError as error:
        if error.errno not in _CANNOT_LISTEN:
            raise
        raise Failure(f"Cannot listen on {config.host}, port {config.port}: {_CANNOT_LISTEN[error.errno]}") from None


def check_exposure(config: Config) -> None:
    """Raises ConfigError if the server would answer other machines without asking for a key, and nobody said it may."""
    from pinyon.http.server import is_loopback

    if config.no_auth and config.api_keys:
        raise ConfigError("no_auth: contradicts api_keys, which are set too: leave one of them out")
    if not (config.api_keys or config.no_auth or is_loopback(config.host)):
        raise ConfigError(
            f"host: {config.host} is reachable from other machines: set a key (--api-key, PINYON_API_KEY), "
            "or say --no-auth to let everyone in"
        )
