"""The exceptions themselves: what they carry. How each is answered is tested with the dialects."""

from __future__ import annotations

import pytest

from pinyon.errors import (
    InputTooLong,
    InvalidRequest,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PinyonError,
    WrongMethod,
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidRequest("must be 1 or more", ("top_n",)), "must be 1 or more"),
        (InputTooLong(300, 256, ("inputs", 3)), "has 300 tokens, more than the 256 that the model takes"),
        (PayloadTooLarge(10), "The request body is larger than the limit of 10 bytes"),
        (NotFound("no such thing", kind="model", name="m"), "no such thing"),
        (WrongMethod("PUT", ("GET", "POST")), "Method PUT is not allowed here, use GET or POST"),
        (WrongMethod("PUT", ("POST",)), "Method PUT is not allowed here, use POST"),
        (Overloaded("busy", retry_after=0.5), "busy"),
    ],
)
def test_the_reason_is_the_text(error: PinyonError, reason: str) -> None:
    assert error.reason == str(error) == reason


def test_what_they_carry() -> None:
    too_long = InputTooLong(300, 256, ("inputs", 3))
    assert (too_long.tokens, too_long.limit, too_long.param) == (300, 256, ("inputs", 3))
    assert InvalidRequest("wrong").param == ()
    assert PayloadTooLarge(10).limit == 10
    assert PayloadTooLarge(10).param == ()
    missing = NotFound("no", kind="path", name="/x")
    assert (missing.kind, missing.name) == ("path", "/x")
    assert WrongMethod("PUT", ("GET",)).allowed == ("GET",)
    assert Overloaded("busy", 2.5).retry_after == 2.5


def test_what_the_client_can_mend_is_an_invalid_request() -> None:
    assert issubclass(InputTooLong, InvalidRequest)
    assert issubclass(PayloadTooLarge, InvalidRequest)
