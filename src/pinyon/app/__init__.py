"""The composition root: Config -> Catalogue, Engine, Services, Dialects -> one ASGI application."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import ssl
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from itertools import takewhile

import msgspec
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pinyon.app.indexes import open_indexes
from pinyon.app.preloading import Preloading
from pinyon.catalog import Catalogue
from pinyon.config import Config, ConfigError
from pinyon.dialects import base
from pinyon.dialects.base import Dialect, Handler
from pinyon.dialects.nugen.routes import nugen
from pinyon.dialects.openai.routes import openai
from pinyon.dialects.perplexity.routes import perplexity
from pinyon.dialects.pinecone.inference.routes import pinecone
from pinyon.engine import hub
from pinyon.engine.engine import Engine
from pinyon.engine.loader import ModelError, describe
from pinyon.engine.memory import budget_bytes
from pinyon.errors import NotFound, Unavailable, WrongMethod
from pinyon.http import tls
from pinyon.http.auth import KeyRing
from pinyon.http.endpoint import Endpoint, Surroundings, Verb
from pinyon.http.grpc import PREFIX, Calls
from pinyon.http.limits import BodyBudget
from pinyon.http.metrics import Metrics
from pinyon.http.paths import Paths
from pinyon.http.ports import Ports
from pinyon.http.server import listen, serve, url_of
from pinyon.services.inference import InferenceService

logger = logging.getLogger("pinyon.app")

_TURN = 0.001  # seconds


def dialects(inference: InferenceService, index_routes: tuple[base.Route, ...] = ()) -> tuple[Dialect, ...]:
    """Every vendor that the server speaks for. On a path of the root that several have, an earlier one is asked first
    whether it claims the request, and the last one takes what nobody claims. `index_routes` are Pinecone's too."""
    one = pinecone(inference)
    one = replace(one, routes=(*one.routes, *index_routes))
    return (one, perplexity(inference), nugen(inference), openai(inference))


def asgi(
    spoken: Sequence[Dialect],
    *,
    keys: Iterable[str],
    metrics: Metrics,
    max_body_bytes: int,
    max_held_bytes: int = 1 << 30,
    budget: BodyBudget | None = None,
    is_ready: Callable[[], bool],
    stand_in: Callable[[str], str | None] = lambda model: None,
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
) -> ASGIApp:
    """The application: every dialect at the root and under its prefix, and the server's own pages.

    `budget`, where there is one, stands for `max_held_bytes`. `stand_in` tells which local model is run in the place of
    one, for a header of every answer that it made.
    """
    budget = budget or BodyBudget(max(max_held_bytes, max_body_bytes))
    around = Surroundings(KeyRing(keys), metrics, max_body_bytes, budget, stand_in)
    # path -> method -> who answers it
    table: dict[str, dict[str, list[tuple[Dialect, Verb]]]] = defaultdict(lambda: defaultdict(list))
    for dialect in spoken:
        for route in dialect.routes:
            error, internal_error = route.error or dialect.error, route.internal_error or dialect.internal_error
            verb = Verb(dialect, route.verb, route.handle, error, internal_error)
            for path in (route.path, dialect.prefix + route.path):
                table[path][route.method].append((dialect, verb))
    answering = {
        path: _Methods({method: _endpoint(around, verbs) for method, verbs in methods.items()}, around, spoken)
        for path, methods in table.items()
    }
    routes: list[BaseRoute] = [Route(path, methods) for path, methods in answering.items()]
    routes += _own_pages(metrics, is_ready)
    app = Starlette(routes=routes, lifespan=lifespan)
    app.router.redirect_slashes = False
    app.router.default = _NoRoute(around, spoken)
    return Paths(answering, app)


def _endpoint(around: Surroundings, candidates: list[tuple[Dialect, Verb]]) -> Endpoint:
    if len(candidates) == 1:
        return Endpoint(around, candidates[0][1])
    fallback = candidates[-1][1]

    def choose(body: bytes) -> Verb:
        try:
            model = _PEEK.decode(body).model
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return fallback
        return next(
            (verb for dialect, verb in candidates if isinstance(model, str) and dialect.claims(model)), fallback
        )

    return Endpoint(around, fallback, choose)


class _ModelOnly(msgspec.Struct):
    model: object = None


_PEEK = msgspec.json.Decoder(_ModelOnly)


class _Methods:
    """One path: hands a request to its method's endpoint, or says which methods there are."""

    def __init__(self, endpoints: dict[str, Endpoint], around: Surroundings, spoken: Sequence[Dialect]) -> None:
        self._endpoints = endpoints
        self._around = around
        self._spoken = spoken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        endpoint: ASGIApp | None = self._endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = tuple(sorted(self._endpoints))

            async def refuse(request: Request, body: bytes) -> Response:
                raise WrongMethod(method, allowed)

            endpoint = Endpoint(self._around, _refusal(scope["path"], self._spoken, "wrong_method", refuse))
        await endpoint(scope, receive, send)


class _NoRoute:
    """Any other path: not found, in the words of the vendor, and of its routes, whose corner of the server it is in."""

    def __init__(self, around: Surroundings, spoken: Sequence[Dialect]) -> None:
        self._around = around
        self._spoken = spoken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def refuse(request: Request, body: bytes) -> Response:
            path = request.scope["path"]
            raise NotFound(f"There is nothing at {path!r}", kind="path", name=path)

        await Endpoint(self._around, _refusal(scope["path"], self._spoken, "not_found", refuse))(scope, receive, send)


def _refusal(path: str, spoken: Sequence[Dialect], name: str, refuse: Handler) -> Verb:
    dialect = _whose(path, spoken)
    own = path.removeprefix(dialect.prefix)
    # In the way of the route that is most like the path.
    near = max(dialect.routes, key=lambda route: _likeness(own, route.path))
    is_near = _likeness(own, near.path)[0] > 0
    error = (near.error if is_near else None) or dialect.error
    internal_error = (near.internal_error if is_near else None) or dialect.internal_error
    return Verb(dialect, name, refuse, error, internal_error)


def _likeness(path: str, pattern: str) -> tuple[int, int]:
    """With how many of the pattern's parts the path begins, and, less than 0, how many the pattern has."""
    parts = pattern.split("/")[1:]
    pairs = zip(path.split("/")[1:], parts, strict=False)
    shared = takewhile(lambda pair: pair[1].startswith("{") or pair[0] == pair[1], pairs)
    return len(list(shared)), -len(parts)


def _whose(path: str, spoken: Sequence[Dialect]) -> Dialect:
    """The vendor that a path belongs to: by its prefix, else by the routes that begin as it does, else the first."""
    for dialect in spoken:
        if path == dialect.prefix or path.startswith(dialect.prefix + "/"):
            return dialect
    head = path.removeprefix("/").partition("/")[0]
    for dialect in reversed(spoken):
        if any(route.path.split("/")[1] == head for route in dialect.routes):
            return dialect
    return spoken[0]


def _own_pages(metrics: Metrics, is_ready: Callable[[], bool]) -> list[BaseRoute]:
    """/health, /ready and /metrics: no key is asked for, and nothing of a client's is in them."""

    async def health(request: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def ready(request: Request) -> Response:
        if is_ready():
            return Response(b'{"status":"ready"}', media_type="application/json")
        return Response(b'{"status":"loading"}', status_code=503, media_type="application/json")

    async def numbers(request: Request) -> Response:
        return Response(metrics.render(), media_type=metrics.content_type)

    return [Route("/health", health), Route("/ready", ready), Route("/metrics", numbers)]


def catalogue(config: Config) -> Catalogue:
    """The built-in models with the operator's own. Raises ConfigError for a folder or an alias that cannot be used.

    A model from the hub must have been pulled before: nothing here touches the network.
    """
    extra = []
    for name, source in config.models.items():
        try:
            folder = hub.locate(source, config.models_path)
            if folder is None:
                raise ConfigError(f"models: {name}: {source} is not on this machine")
            extra.append(describe(folder, name))
        except (ModelError, Unavailable) as error:
            raise ConfigError(f"models: {name}: {error}") from None
    try:
        return Catalogue.build(
            config.models_path, extra, config.aliases, config.stand_ins, all_stand_ins=config.all_stand_ins
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


async def build(config: Config, main_port: int) -> Ports:
    """The whole server as an ASGI application, which answers on the ports of indexes too.

    Its lifespan loads `config.preload`, until that succeeds, and, at the end, finishes what is queued. Raises
    ConfigError, and Unavailable if what the indexes are in cannot be opened.
    """
    known = catalogue(config)
    try:
        preload = [known.carrier(known.get(name)) for name in config.preload]
    except NotFound as error:
        raise ConfigError(f"preload: {error.reason}") from None
    metrics = Metrics()
    engine = Engine(
        known,
        precision=config.precision,
        threads=config.threads,
        limits=config.limits,
        memory_budget=budget_bytes(config.memory_budget),
        observer=metrics,
    )
    inference = InferenceService(known, engine, config.prices)
    for name, local in known.stand_ins.items():
        logger.warning("stand-in: for development alone", extra={"model": name, "local": local})
    ports = Ports(lambda port: listen(config.host, port))
    indexes = await open_indexes(config, known, inference, ports, main_port, metrics) if config.indexes else None
    preloading = Preloading(engine.load, preload)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.close)
            if indexes is not None:
                await stack.enter_async_context(indexes.running())
            # Beside the start, not before it: a large model loads while /health answers and /ready says 503.
            loading = asyncio.create_task(preloading.run())
            try:
                yield
            finally:
                loading.cancel()
                with suppress(asyncio.CancelledError):
                    await loading

    limits = config.limits
    # What REST and gRPC hold together. A message of the largest size fits where it is alone.
    budget = BodyBudget(max(limits.max_held_bytes, limits.max_body_bytes, limits.max_message_bytes + PREFIX))
    ports.app = asgi(
        dialects(inference, indexes.routes if indexes is not None else ()),
        keys=config.api_keys,
        metrics=metrics,
        max_body_bytes=limits.max_body_bytes,
        budget=budget,
        is_ready=lambda: preloading.is_ready,
        stand_in=inference.stand_in,
        lifespan=lifespan,
    )
    if indexes is not None:
        around = Surroundings(KeyRing(config.api_keys), metrics, limits.max_message_bytes, budget)
        ports.open_call = Calls(around, indexes.grpc, ports.path_of).open
    return ports


def tls_context(config: Config) -> ssl.SSLContext | None:
    """None if there is no certificate. Raises ConfigError for one that cannot be used."""
    if not config.tls_cert and not config.tls_key:
        return None
    if not (config.tls_cert and config.tls_key):
        missing, given = ("tls_key", "tls_cert") if config.tls_cert else ("tls_cert", "tls_key")
        raise ConfigError(f"{missing}: is needed beside {given}")
    try:
        return tls.context(config.tls_cert, config.tls_key)
    except OSError as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"tls_cert, tls_key: cannot be used ({reason})") from None


def run(config: Config) -> None:
    """Answers on the configured address until SIGINT or SIGTERM. Raises ConfigError, Unavailable, and OSError if it
    cannot listen."""
    # A thread that works, as one that encodes a write does, would else keep the event loop waiting for 5 ms a turn.
    sys.setswitchinterval(_TURN)
    secure = tls_context(config)
    listener = listen(config.host, config.port)
    try:
        uvloop.run(_run(config, listener, secure))
    finally:
        listener.close()
    logger.info("stopped")


async def _run(config: Config, listener: socket.socket, secure: ssl.SSLContext | None) -> None:
    app = await build(config, listener.getsockname()[1])
    # What is there by now stays, and a full collection, in which nothing is answered, need not look through it.
    gc.freeze()
    logger.info("listening", extra={"url": url_of(listener, config.scheme)})
    limits = config.limits
    await serve(
        app,
        [listener],
        max_connections=limits.max_connections,
        shutdown_seconds=limits.shutdown_seconds,
        ports=app,
        open_call=app.open_call,
        tls=secure,
    )
