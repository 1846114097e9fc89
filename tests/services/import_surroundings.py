"""What a test of imports sees of the machine: no credentials, and no look-up of names."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from pinyon.services import import_sources

PUBLIC = "20.60.1.1"  # of nobody that a test would talk to


def no_credentials(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("HOME", str(home))
    for name in (
        *import_sources._S3_CREDENTIALS,
        *import_sources._S3_ENDPOINTS,
        *import_sources._REGIONS,
        "AWS_SECRET_ACCESS_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AZURE_STORAGE_ACCOUNT",
        "AZURE_STORAGE_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_CLIENT_ID",
    ):
        monkeypatch.delenv(name, raising=False)


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name of Azure's has these addresses."""
    real = socket.getaddrinfo

    def found(host: Any, port: Any, *args: Any, **more: Any) -> list[Any]:
        if ".core." not in str(host):
            return real(host, port, *args, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)
