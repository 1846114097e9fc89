"""Finds the application of a busy path by a look-up, where a router would try one pattern after the other."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send


class Paths:
    """An ASGI application: paths of `table` that it can look up, and all else to `others`.

    It can look up a path without a pattern, and one of the form `/head/{name}/rest`. Both mean what they do in
    Starlette: `{name}` is one part of a path, and not empty.
    """

    def __init__(self, table: Mapping[str, ASGIApp], others: ASGIApp) -> None:
        self._others = others
        self._plain: dict[str, ASGIApp] = {}
        self._named: dict[tuple[str, str], tuple[str, ASGIApp]] = {}
        for path, app in table.items():
            if "{" not in path:
                self._plain[path] = app
                continue
            _, head, name, *rest = path.split("/")
            below = "/".join(rest)
            if below and "{" not in head + below and name.startswith("{") and name.endswith("}") and ":" not in name:
                self._named[head, below] = name[1:-1], app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._others
        if scope["type"] == "http":
            path: str = scope["path"]
            if path in self._plain:
                app = self._plain[path]
            else:
                head, _, below = path[1:].partition("/")
                name, _, rest = below.partition("/")
                if name and (found := self._named.get((head, rest))) is not None:
                    parameter, app = found
                    scope["path_params"] = {parameter: name}
        await app(scope, receive, send)
