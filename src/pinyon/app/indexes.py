"""The part of the composition root that is about indexes: where they are remembered, kept, and answer."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pinyon.catalog import Catalogue
from pinyon.config import Config
from pinyon.dialects.base import GrpcDialect, Route
from pinyon.dialects.pinecone.control.routes import control_routes
from pinyon.dialects.pinecone.control.routes_backups import backup_routes, collection_routes
from pinyon.dialects.pinecone.data.routes import data_routes, import_routes
from pinyon.errors import Unavailable
from pinyon.http.metrics import Metrics
from pinyon.http.ports import Ports
from pinyon.http.server import is_loopback
from pinyon.services.backups import BackupService
from pinyon.services.collections import CollectionService
from pinyon.services.copies import Copies
from pinyon.services.import_sources import Sources
from pinyon.services.imports import ImportService
from pinyon.services.indexes import IndexService
from pinyon.services.inference import InferenceService
from pinyon.services.jobs import Jobs
from pinyon.services.records import RecordsService
from pinyon.state import IndexRecord, JobKind
from pinyon.stores.base import Store

if TYPE_CHECKING:
    from pinyon.state import State

logger = logging.getLogger("pinyon.indexes")

# How many ports are tried for an index whose own is taken by another program.
_TRIES = 20


class PortAddresses:
    """Gives each index its port, and another one where that is taken."""

    def __init__(self, ports: Ports, state: State) -> None:
        self._ports = ports
        self._state = state

    async def open(self, record: IndexRecord) -> IndexRecord:
        for _ in range(_TRIES):
            if record.port is None:
                return record
            try:
                await self._ports.open(record.port, path_of(record))
                return record
            except OSError:
                taken = record.port
                record = await self._state.change_port(record)
                logger.warning("port taken", extra={"index": record.name, "port": taken, "now": record.port})
        raise Unavailable("No port could be had for the index")

    async def close(self, record: IndexRecord) -> None:
        if record.port is not None:
            self._ports.close(record.port)


def path_of(record: IndexRecord) -> str:
    """Where an index answers on the main port."""
    return f"/i/{record.name}"


def host_of(config: Config, main_port: int) -> Callable[[IndexRecord], str]:
    """What clients are told of where an index answers, by `config.index_hosts`."""
    # A client on this machine reaches a server that listens everywhere at localhost; others need a template.
    everywhere = config.host in ("0.0.0.0", "::", "[::]")
    # NOTE: the Python SDKs 9 and 10 refuse a host without a dot that is not localhost.
    name = "localhost" if everywhere or (is_loopback(config.host) and ":" in config.host) else config.host

    def describe(record: IndexRecord) -> str:
        if config.index_hosts == "ports" and record.port is not None:
            return f"{config.scheme}://{name}:{record.port}"
        if config.index_hosts in ("ports", "path"):
            return f"{config.scheme}://{name}:{main_port}{path_of(record)}"
        return config.index_hosts.replace("{index}", record.name)

    return describe


def index_at(config: Config) -> Callable[[str], str | None]:
    """Which index is meant by the host that a call was sent to, as `config.index_hosts` names it or as
    `<index>.localhost`; None if none is."""
    hosts = ["{index}.localhost"]
    if "{index}" in (host := urlsplit(config.index_hosts).hostname or ""):
        hosts.append(host)
    patterns = [re.compile(re.escape(host).replace(re.escape("{index}"), "([a-z0-9-]+)")) for host in hosts]

    def find(authority: str) -> str | None:
        name = authority.rpartition(":")[0] if authority[-1:].isdigit() and ":" in authority else authority
        return next((found[1] for pattern in patterns if (found := pattern.fullmatch(name.lower()))), None)

    return find


@dataclass(frozen=True, slots=True)
class Indexes:
    """The index APIs of one server: the routes, the methods of gRPC, and what has to run while they answer."""

    routes: tuple[Route, ...]
    grpc: GrpcDialect
    service: IndexService
    jobs: Jobs
    state: State
    store: Store

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            await self.jobs.start()
            yield
        finally:
            await self.jobs.close()
            await self.service.close()
            await self.store.close()
            await self.state.close()


async def open_indexes(
    config: Config, known: Catalogue, inference: InferenceService, ports: Ports, main_port: int, metrics: Metrics
) -> Indexes:
    """Opens what the indexes are remembered in, and gives those that there are their addresses.

    Raises ConfigError, and Unavailable if another process has them or the folder cannot be written.
    """
    # Not above: a server without indexes starts in two thirds of the time without SQLAlchemy and the store's engine.
    from pinyon.dialects.pinecone.data.grpc import pinecone_grpc
    from pinyon.state import State
    from pinyon.stores.edge import EdgeStore

    state = await State.open(config.state, ports=config.index_port_range if config.index_hosts == "ports" else range(0))
    store = EdgeStore(config.data_path / "indexes")
    try:
        if await state.list_indexes():
            # Takes the store's lock, before any port of an index is taken from the process that has it.
            await store.keys()
        limits = config.limits
        jobs = Jobs(state, running=limits.max_running_jobs, waiting=limits.max_waiting_jobs, metrics=metrics)
        service = IndexService(state, store, known, PortAddresses(ports, state), jobs)
        copies = Copies(state, service, config.backups)
        backups = BackupService(state, service, jobs, copies)
        collections = CollectionService(state, service, jobs, copies)
        await service.start()
        await backups.start()
        await collections.start()
    except BaseException:
        await store.close()
        await state.close()
        raise
    records = RecordsService(service, inference, state, config.limits)
    imports = ImportService(jobs, service, Sources(config.import_roots, config.integrations))
    jobs.handle(JobKind.IMPORT, imports.run)
    routes = (
        *control_routes(service, host_of(config, main_port), collections),
        *backup_routes(backups),
        *collection_routes(collections),
        *data_routes(records),
        *import_routes(imports),
    )
    return Indexes(routes, pinecone_grpc(records, index_at(config)), service, jobs, state, store)
