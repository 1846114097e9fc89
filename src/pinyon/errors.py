"""The errors that Pinyon's core raises, and what each one carries.

Knows nothing of HTTP, of a vendor, or of what a field is called on a vendor's wire: `param` is a path in core terms
(`("inputs", 3)`, `("dimension",)`), and `reason` is a sentence without the field's name. Each dialect puts the two
together in its own words.
"""

from __future__ import annotations

Param = tuple[str | int, ...]


class PinyonError(Exception):
    """Base of everything that is answered to a client on purpose. `reason` is safe to show: no internals, no user
    text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidRequest(PinyonError):
    """The request is wrong, and the client can mend it. `param` is the path of the field, empty for the body itself."""

    def __init__(self, reason: str, param: Param = ()) -> None:
        super().__init__(reason)
        self.param = param


class InputTooLong(InvalidRequest):
    """A text has more tokens than the model takes, and truncation was refused (truncate NONE).

    `tokens` is how many were counted: of a text that is far too long, not all are.
    """

    def __init__(self, tokens: int, limit: int, param: Param = ()) -> None:
        super().__init__(f"has {tokens} tokens, more than the {limit} that the model takes", param)
        self.tokens = tokens
        self.limit = limit


class PayloadTooLarge(InvalidRequest):
    """The body is larger than the server takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is larger than the limit of {limit} bytes")
        self.limit = limit


class Unauthenticated(PinyonError):
    """The key is missing or wrong."""


class PermissionDenied(PinyonError):
    """The key is right and may not do this."""


class Protected(PermissionDenied):
    """What the request would delete is protected, whoever asks."""


class NotFound(PinyonError):
    """What the request names is not here. `kind` is the sort of thing ("model", "path"), `name` is what was asked
    for."""

    def __init__(self, reason: str, kind: str, name: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.name = name


class WrongMethod(PinyonError):
    """The path exists, with other methods."""

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"Method {method} is not allowed here, use {' or '.join(allowed)}")
        self.allowed = allowed


class AlreadyExists(PinyonError):
    """What the request would create is here already."""


class FailedPrecondition(PinyonError):
    """The request is right, and the state of what it names forbids it."""


class Unsupported(PinyonError):
    """The vendor has it, Pinyon does not."""


class Overloaded(PinyonError):
    """The queue is full. `retry_after` is in seconds."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Unavailable(PinyonError):
    """The server cannot answer now: it is shutting down, or a model failed to load."""
