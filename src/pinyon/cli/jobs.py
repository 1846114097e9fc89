"""`pinyon jobs`: backups, restores, imports and collections, and how far they are.

Read from the database of the state, beside the server that writes it: so no key is needed, and what waits for a server
to be started is seen too.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pinyon.cli.settings import read_config, setting_options

if TYPE_CHECKING:
    from rich.console import Console, Group

    from pinyon.state import JobRecord, State

_HEAD = ("ID", "KIND", "INDEX", "STATUS", "DONE", "CREATED", "ERROR")
_WIDE = 140  # columns of a terminal that have room for ids
_PAUSE = 0.5  # seconds between two looks


@click.command()
@click.option("-n", "--newest", default=20, type=click.IntRange(min=0), help="Finished jobs that are shown (20).")
@setting_options("data_dir")
def jobs(newest: int, **flags: Any) -> None:
    """Backups, restores, imports and collections: what is done, and how far the rest is.

    On a terminal a table that moves until all are finished; else tab-separated lines, the first of them the columns'
    names.
    """
    asyncio.run(_jobs(read_config(**flags).state, newest))


async def _jobs(url: str, newest: int) -> None:
    from pinyon.state import State

    state = await State.open(url, existing=True)
    try:
        if not sys.stdout.isatty():
            for row in (_HEAD, *map(_cells, await _found(state, newest))):
                click.echo("\t".join(row))
            return
        from rich.console import Console

        await watch(state, newest, Console())
    finally:
        await state.close()


async def watch(state: State, newest: int, console: Console, pause: float = _PAUSE) -> None:
    """A table on the console, until all jobs are finished."""
    from rich.live import Live

    found = await _found(state, newest)
    with Live(_shown(found, console.width, console.height), console=console, auto_refresh=False) as live:
        while not all(job.status.is_final for job in found):
            await asyncio.sleep(pause)
            found = await _found(state, newest)
            live.update(_shown(found, console.width, console.height), refresh=True)
        live.update(_shown(found, console.width))  # what no longer moves may be longer than the terminal


async def _found(state: State, newest: int) -> list[JobRecord]:
    """All that are not finished, and the newest others; newest first."""
    unfinished = await state.unfinished_jobs()
    # One may have finished between the two looks, and is shown once.
    found = {job.id: job for job in [*unfinished, *await state.list_jobs(limit=newest + len(unfinished))]}
    shown = [job for job in found.values() if not job.status.is_final]
    shown += [job for job in found.values() if job.status.is_final][:newest]
    return sorted(shown, key=lambda job: job.created_at, reverse=True)


def _cells(job: JobRecord) -> tuple[str, ...]:
    stopping = job.cancelling and not job.status.is_final
    return (
        job.id,
        job.kind.value,
        job.index_name or "",
        "cancelling" if stopping else job.status.value,
        f"{job.percent:.0f}%",
        job.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        # It may quote a file: no line ends and no commands to the terminal.
        "".join(each if each.isprintable() else "?" for each in job.error or ""),
    )


def _shown(found: Sequence[JobRecord], width: int, height: int | None = None) -> Group:
    """A table for a terminal of so many columns and lines, and below it why some have failed. Where not all have room,
    those that run come before those that wait, and these before the rest."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    is_wide = width >= _WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in (*_HEAD[not is_wide : 4], "", *_HEAD[4:6]):
        table.add_column(head, overflow="fold", no_wrap=head != "INDEX")
    shown = found if height is None else _fitting(found, width, height)
    below = []
    for job in shown:
        *cells, error = map(Text, _cells(job))
        bar = ProgressBar(total=100, completed=job.percent, width=24 if is_wide else 12)
        table.add_row(*cells[not is_wide : 4], bar, *cells[4:])
        if error:
            below.append(Text.assemble("\n", cells[0], ": ", error))
    if len(shown) < len(found):
        below.append(Text(f"and {len(found) - len(shown)} more", style="dim"))
    return Group(table, *below)


def _fitting(found: Sequence[JobRecord], width: int, height: int) -> Sequence[JobRecord]:
    """Those that have room, in their order."""
    from pinyon.state import JobStatus

    def lines(job: JobRecord) -> int:
        told = len(job.id) + 2 + len(job.error or "")
        return 1 + (2 + told // width if job.error else 0)

    rank = {JobStatus.RUNNING: 0, JobStatus.PENDING: 1}
    # Among those that wait the oldest have their turns first; of the others the newest are of interest.
    waiting = [job for job in reversed(found) if not job.status.is_final]
    ranked = sorted([*waiting, *(job for job in found if job.status.is_final)], key=lambda job: rank.get(job.status, 2))
    room = height - 2  # without the head, and the line for those that have none
    kept = set()
    for job in ranked:
        room -= lines(job)
        if room < 0:
            break
        kept.add(job.id)
    return [job for job in found if job.id in kept]
