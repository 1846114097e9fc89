"""The command line. `main` is the entry point; each command has a module of its own.

What a command can foresee going wrong ends it with one sentence on stderr: exit status 2 for a mistake in the
configuration or on the command line, 1 for the rest, 130 for Ctrl-C. Modules here import what is slow inside the
commands, so that `pinyon --help` is not.
"""

from __future__ import annotations

from typing import Any

import click

from pinyon.cli import doctor, embed, jobs, models, serve, tls
from pinyon.cli.settings import Failure
from pinyon.config import ConfigError
from pinyon.errors import PinyonError

INTERRUPTED = 130  # 128 + SIGINT, as a shell gives it


class Commands(click.Group):
    """A group whose commands may raise ConfigError, PinyonError and Failure."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            reason, status = str(error), 2
        except (PinyonError, Failure) as error:
            reason, status = str(error), 1
        except KeyboardInterrupt:
            reason, status = "interrupted", INTERRUPTED
        click.echo(f"pinyon: {reason}", err=True)
        ctx.exit(status)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pinyon", message="pinyon %(version)s")
def main() -> None:
    """Hosted embedding APIs on your own machine."""


for _command in (serve.serve, embed.embed, models.models, jobs.jobs, tls.tls, doctor.doctor):
    main.add_command(_command)
