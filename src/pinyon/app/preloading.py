"""Loading models before they are asked for, and whether all of them have been: what /ready says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from pinyon.catalog import ModelSpec
from pinyon.errors import NotFound, Unavailable

logger = logging.getLogger("pinyon.app")

# Seconds between tries: a folder may be mended, or a model pulled, while the server runs.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Preloading:
    """Loads `specs`, and tries those again that fail, with growing pauses.

    `is_ready` becomes true once each has been loaded, and stays so: a model that was let go to make room is loaded
    again by the next request for it.
    """

    def __init__(
        self,
        load: Callable[[ModelSpec], Awaitable[None]],
        specs: Sequence[ModelSpec],
        *,
        first_pause: float = _FIRST_PAUSE,
    ) -> None:
        self._load = load
        self._specs = specs
        self._first_pause = first_pause
        self.is_ready = False

    async def run(self) -> None:
        """Until all are loaded."""
        waiting = list(self._specs)
        pause = self._first_pause
        while waiting := [spec for spec in waiting if not await self._loaded(spec, pause)]:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self.is_ready = True
        logger.info("ready")

    async def _loaded(self, spec: ModelSpec, pause: float) -> bool:
        try:
            await self._load(spec)
        except (NotFound, Unavailable) as error:
            logger.error("not ready", extra={"model": spec.name, "reason": error.reason, "again_in": pause})
            return False
        return True
