"""What the routes of all of Pinecone's planes share: a request's version, and an error's answer as a response."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pinyon.dialects.pinecone.errors import ErrorAnswer
from pinyon.dialects.pinecone.versions import DEFAULT, HEADER, read_version
from pinyon.errors import InvalidRequest


def version_of(request: Request) -> str:
    """Raises InvalidRequest for a header that is not a version."""
    return read_version(request.headers.get(HEADER))


def version_or_default(request: Request) -> str:
    """The version to write an error in, which may be one about the version itself."""
    try:
        return version_of(request)
    except InvalidRequest:
        return DEFAULT


def respond(answer: ErrorAnswer) -> Response:
    return Response(answer.body, answer.status, answer.headers, answer.media_type)
