"""Azure's blob storage as a file system of pyarrow's: what imports and archives have in common about it.

NOTE: pyarrow's Azure client ends the whole process, with no exception, when a token would go over plain http. So
whoever has neither a key nor a SAS token nor anonymous access there is refused here.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from pyarrow import fs

_URI = re.compile(
    r"abfss?://(?P<container>[^/@:]+)@(?P<account>[a-z0-9]+)(?P<dfs>\.dfs\.[a-z.]+)(?P<path>/[^?]*)?(\?.*)?"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the blobs and the hierarchy of an account are: HOST:PORT, or what follows the account in a host's name."""

    blob: str = ".blob.core.windows.net"
    dfs: str = ".dfs.core.windows.net"
    scheme: str = "https"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key, or else a SAS token, or else nobody's name; with none of them what Azure's own library finds."""

    key: str = ""
    sas: str = ""
    anonymous: bool = False

    def __repr__(self) -> str:
        return "Credentials()"


def credentials_of(account: str, environ: Mapping[str, str] = os.environ) -> Credentials:
    """What the environment has for this account, by the names that Azure's command line gives them."""
    if account != environ.get("AZURE_STORAGE_ACCOUNT"):
        return Credentials()
    return Credentials(environ.get("AZURE_STORAGE_KEY", ""), environ.get("AZURE_STORAGE_SAS_TOKEN", ""))


def open_account(account: str, endpoint: Endpoint, credentials: Credentials) -> fs.FileSystem:
    """Reaches for nothing yet. Raises PermissionError for a plain http endpoint without credentials of its own."""
    from pyarrow import fs

    options: dict[str, Any] = {
        "blob_storage_authority": endpoint.blob,
        "dfs_storage_authority": endpoint.dfs,
        "blob_storage_scheme": endpoint.scheme,
        "dfs_storage_scheme": endpoint.scheme,
    }
    if credentials.key:
        return fs.AzureFileSystem(account, account_key=credentials.key, **options)
    if credentials.sas:
        # As part of a URL, which is how pyarrow takes it; Azure's tools give it without the mark.
        return fs.AzureFileSystem(account, sas_token="?" + credentials.sas.removeprefix("?"), **options)
    if credentials.anonymous:
        # Only a URI can ask for this.
        query = f"blob_storage_authority={endpoint.blob}&dfs_storage_authority={endpoint.dfs}"
        tls = str(endpoint.scheme == "https").lower()
        uri = f"abfs://x@{account}.dfs.core.windows.net?credential_kind=anonymous&enable_tls={tls}&{query}"
        return fs.FileSystem.from_uri(uri)[0]
    if endpoint.scheme != "https":
        raise _plain()
    return fs.AzureFileSystem(account, **options)


def open_uri(uri: str) -> tuple[fs.FileSystem, str]:
    """As `FileSystem.from_uri`, with a key or token of the environment where the URI has no credentials. Raises
    ArrowInvalid, and PermissionError as `open_account`."""
    from pyarrow import fs

    found = _URI.fullmatch(uri)
    query = dict(parse_qsl(uri.partition("?")[2]))
    scheme = "http" if query.pop("enable_tls", "").lower() in ("false", "0") else "https"
    if found is not None and not query.keys() - {"blob_storage_authority", "dfs_storage_authority"}:
        dfs = found["dfs"]
        blob = dfs.replace(".dfs", ".blob")
        endpoint = Endpoint(query.get("blob_storage_authority", blob), query.get("dfs_storage_authority", dfs), scheme)
        filesystem = open_account(found["account"], endpoint, credentials_of(found["account"]))
        return filesystem, found["container"] + unquote(found["path"] or "")
    if scheme == "http" and "sig" not in query and query.get("credential_kind") != "anonymous":
        raise _plain()
    return fs.FileSystem.from_uri(uri)


def _plain() -> PermissionError:
    why = "no token of Azure's may go over plain http: a key, a SAS token or anonymous access may"
    return PermissionError(errno.EACCES, why)
