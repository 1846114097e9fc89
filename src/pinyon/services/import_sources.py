"""Where imports read from: URIs to pyarrow file systems, who may read what, and the Parquet files in a folder.

A place is s3://, gs://, Azure (https://ACCOUNT.blob.core.windows.net/CONTAINER/..., abfs://, az://), or file:// below a
folder that the operator allows. Everything here may block on a network: call it in a thread.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pinyon.config import Integration
from pinyon.errors import InvalidRequest
from pinyon.services.azure import Credentials, Endpoint, credentials_of, open_account
from pinyon.services.record_checks import check_namespace

if TYPE_CHECKING:
    from pyarrow import NativeFile, fs

DEFAULT_NAMESPACE = "__default__"  # the sub-folder of the default namespace
MAX_URI = 1500  # characters
MAX_FILES = 100_000
SUFFIX = ".parquet"
PARAM = ("uri",)

FORMS = (
    "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, https://ACCOUNT.blob.core.windows.net/CONTAINER/FOLDER or file:///FOLDER"
)
_NO_CREDENTIALS = "is an integration whose credentials this server does not have"
_CONNECT_SECONDS, _REQUEST_SECONDS = 5, 30
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")  # it becomes a part of a host's name
_CONTAINER = re.compile(r"\$root|\$web|[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
# Azure's clouds. Only they can make names that end so.
_AZURE_HOST = re.compile(
    r"(?P<account>[a-z0-9]{3,24})(?P<cloud>\.(?:blob|dfs)\.core\.(?:windows\.net|usgovcloudapi\.net|chinacloudapi\.cn))"
)
# What tells that the environment has credentials. Without any, only what is public can be read: nobody is to be asked
# for the credentials of the machine itself.
_S3_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of a file system. `within` of a local one are the folders, without links, that files must lie in."""

    filesystem: fs.FileSystem
    path: str  # as the file system names it, with no slash at its end
    within: tuple[Path, ...] = ()

    def open(self, file: SourceFile) -> NativeFile:
        """Raises OSError."""
        path = f"{self.path}/{file.path}"
        if self.within:
            # Once more: a link may have come between.
            path = str(_checked_local(Path(path), self.within))
        return self.filesystem.open_input_file(path)


@dataclass(frozen=True, slots=True, order=True)
class SourceFile:
    """A Parquet file of an import. Their order is the order in which they are read."""

    namespace: str  # the core's: "" is the default one
    path: str  # from the import's folder: `films/2019/0.parquet`
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Sources:
    """What this server may read. `roots`: folders for file://. `integrations`: by the id that clients name."""

    roots: Sequence[str] = ()
    integrations: Mapping[str, Integration] | None = None

    def find(self, uri: str, integration_id: str | None) -> Place:
        """The folder of a URI; whether there is one is not looked at. Raises InvalidRequest."""
        integration = None
        if integration_id is not None:
            integration = (self.integrations or {}).get(integration_id)
            if integration is None:
                raise InvalidRequest("names no integration of this server", ("integration_id",))
        if not 1 <= len(uri) <= MAX_URI:
            raise InvalidRequest(f"must have 1 to {MAX_URI} characters, and has {len(uri)}", PARAM)
        scheme, separator, rest = uri.partition("://")
        scheme = scheme.lower()
        if not separator or not rest.isprintable() or "?" in rest or "#" in rest or "\\" in rest:
            raise InvalidRequest(f"must be {FORMS}, without a query", PARAM)
        if scheme == "file":
            return self._local(uri, integration)
        if any(part in (".", "..") for part in unquote(rest).split("/")):
            raise InvalidRequest("must not hold . or .. as a folder", PARAM)
        match scheme:
            case "s3" | "s3a":
                return _s3(*_split(rest, _BUCKET), _of_kind(integration, "s3"))
            case "gs" | "gcs":
                return _gcs(*_split(rest, _BUCKET), _of_kind(integration, "gcs"))
            case "az":
                container, path = _split(rest, _CONTAINER)
                return _azure(_account(None, integration), "", container, path, _of_kind(integration, "azure"))
            case "abfs" | "abfss":
                return _abfs(rest, _of_kind(integration, "azure"))
            case "https":
                return _https(uri, _of_kind(integration, "azure"))
        raise InvalidRequest(f"must be {FORMS}", PARAM)

    def _local(self, uri: str, integration: Integration | None) -> Place:
        from pyarrow import fs

        parts = urlsplit(uri)
        if integration is not None:
            raise InvalidRequest("must not be given for a local folder", ("integration_id",))
        path = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_absolute() or "\0" in str(path):
            raise InvalidRequest(f"must be {FORMS}", PARAM)
        within = tuple(Path(root).expanduser().resolve() for root in self.roots)
        # One sentence for all that is outside: what lies there, or does not, is nobody's to learn.
        return Place(fs.LocalFileSystem(), str(_checked_local(path, within)), within)


def _checked_local(path: Path, within: Sequence[Path]) -> Path:
    """The path without links. Raises InvalidRequest if it lies outside."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # links that go round
        real = None
    if real is None or not any(real.is_relative_to(root) for root in within):
        raise InvalidRequest("is outside the folders that this server may import from", PARAM)
    return real


# --- the file systems ------------------------------------------------------------------------------------------------


def _s3(bucket: str, path: str, integration: Integration | None) -> Place:
    from pyarrow import fs

    options: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS, "request_timeout": _REQUEST_SECONDS}
    given = integration or Integration("s3")
    if given.endpoint_override:
        options["scheme"], options["endpoint_override"] = _endpoint(given)
    if access_key := _secret(given.access_key):
        options |= {"access_key": access_key, "secret_key": _secret(given.secret_key)}
        options |= {"session_token": token} if (token := _secret(given.session_token)) else {}
    elif given.anonymous or (integration is None and not _has_s3_credentials()):
        options["anonymous"] = True
    region = given.region or next((os.environ[name] for name in _REGIONS if os.environ.get(name)), None)
    if region is None and not given.endpoint_override and not any(os.environ.get(name) for name in _S3_ENDPOINTS):
        try:
            region = fs.resolve_s3_region(bucket)
        except OSError:
            raise InvalidRequest("names a bucket that is not there, or cannot be reached", PARAM) from None
    return Place(fs.S3FileSystem(region=region or "us-east-1", **options), f"{bucket}/{path}".rstrip("/"))


def _has_s3_credentials() -> bool:
    return _is_at_home(".aws/credentials") or any(os.environ.get(name) for name in _S3_CREDENTIALS)


def _has_gcs_credentials() -> bool:
    known = ".config/gcloud/application_default_credentials.json"
    return bool(os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")) or _is_at_home(known)


def _is_at_home(path: str) -> bool:
    try:
        return (Path.home() / path).is_file()
    except RuntimeError:  # a container's user may have no home
        return False


def _gcs(bucket: str, path: str, integration: Integration | None) -> Place:
    from pyarrow import fs

    # Its own default is to try again for 15 minutes.
    options: dict[str, Any] = {"retry_time_limit": timedelta(seconds=_REQUEST_SECONDS)}
    given = integration or Integration("gcs")
    if given.endpoint_override:
        options["scheme"], options["endpoint_override"] = _endpoint(given)
    if given.anonymous or (integration is None and not _has_gcs_credentials()):
        options["anonymous"] = True
    return Place(fs.GcsFileSystem(**options), f"{bucket}/{path}".rstrip("/"))


def _azure(account: str, cloud: str, container: str, path: str, integration: Integration | None) -> Place:
    """`cloud`: what follows the account in a host's name, or "" for the usual one."""
    given = integration or Integration("azure")
    if given.account and given.account != account:
        raise InvalidRequest("is an integration of another account than the uri", ("integration_id",))
    endpoint = Endpoint()
    if given.endpoint_override:
        scheme, authority = _endpoint(given)
        endpoint = Endpoint(authority, authority, scheme)
    elif cloud:
        endpoint = Endpoint(re.sub(r"^\.\w+", ".blob", cloud), re.sub(r"^\.\w+", ".dfs", cloud))
    credentials = credentials_of(account)
    if integration is not None:
        credentials = Credentials(_secret(given.account_key), _secret(given.sas_token), given.anonymous)
    elif not (credentials.key or credentials.sas or os.environ.get("AZURE_CLIENT_ID")):
        credentials = Credentials(anonymous=True)
    try:
        filesystem = open_account(account, endpoint, credentials)
    except PermissionError:  # of a token over plain http; the operator's to mend
        raise InvalidRequest(_NO_CREDENTIALS, ("integration_id",)) from None
    return Place(filesystem, f"{container}/{path}".rstrip("/"))


def _https(uri: str, integration: Integration | None) -> Place:
    """Azure's blobs; another host only where an integration of the operator's names it, and it may be anywhere then."""
    parts = urlsplit(uri)
    host = parts.netloc.lower()
    path = unquote(parts.path).strip("/")
    if integration is not None and integration.endpoint_override:
        scheme, authority = _endpoint(integration)
        if (scheme, authority.lower()) == ("https", host):
            account, _, rest = path.partition("/")
            return _azure(_account(account, integration), "", *_split(rest, _CONTAINER), integration)
    found = _AZURE_HOST.fullmatch(host)
    if found is None:
        raise InvalidRequest("names a host that this server does not import from", PARAM)
    if not (integration is not None and integration.endpoint_override):
        check_public(host)
    return _azure(found["account"], found["cloud"], *_split(path, _CONTAINER), integration)


def _abfs(rest: str, integration: Integration | None) -> Place:
    """CONTAINER@ACCOUNT.dfs.core.windows.net/PATH, or CONTAINER/PATH where it is known whose."""
    authority, _, path = rest.partition("/")
    container, at, host = authority.partition("@")
    if not at:
        return _azure(_account(None, integration), "", *_split(rest, _CONTAINER), integration)
    found = _AZURE_HOST.fullmatch(host.lower())
    if found is None:
        raise InvalidRequest("names a host that this server does not import from", PARAM)
    if not (integration is not None and integration.endpoint_override):
        check_public(host)
    return _azure(found["account"], found["cloud"], *_split(f"{container}/{path}", _CONTAINER), integration)


def check_public(host: str) -> None:
    """Raises InvalidRequest if any address of the host is private, loopback, link-local or otherwise not public."""
    try:
        found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except OSError:
        raise InvalidRequest("names a host that is not known", PARAM) from None
    for *_, address in found:
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
            raise InvalidRequest("names a host that this server does not import from", PARAM)


def _of_kind(integration: Integration | None, kind: str) -> Integration | None:
    if integration is not None and integration.kind != kind:
        raise InvalidRequest(f"is an integration of {integration.kind}, which the uri is not", ("integration_id",))
    return integration


def _account(named: str | None, integration: Integration | None) -> str:
    account = named or (integration.account if integration else "") or os.environ.get("AZURE_STORAGE_ACCOUNT", "")
    if _ACCOUNT.fullmatch(account) is None:
        raise InvalidRequest("names no storage account", PARAM)
    return account


def _endpoint(integration: Integration) -> tuple[str, str]:
    """Scheme and authority."""
    scheme, separator, authority = integration.endpoint_override.partition("://")
    return (scheme, authority) if separator else ("https", scheme)


def _secret(value: str) -> str:
    """Raises InvalidRequest, without a name, if it stands in a variable that is not set."""
    if not value.startswith("env:"):
        return value
    secret = os.environ.get(value.removeprefix("env:"))
    if not secret:
        raise InvalidRequest(_NO_CREDENTIALS, ("integration_id",))
    return secret


def _split(rest: str, pattern: re.Pattern[str]) -> tuple[str, str]:
    """The bucket or container, and the path in it."""
    bucket, *path = [part for part in rest.split("/") if part] or [""]
    if pattern.fullmatch(bucket) is None:
        raise InvalidRequest("names no bucket or container, or one that cannot be", PARAM)
    return bucket, "/".join(path)


# --- files -----------------------------------------------------------------------------------------------------------


def list_files(place: Place) -> list[SourceFile]:
    """The Parquet files of an import in the order of their names: one sub-folder a namespace, files anywhere below it.

    Raises InvalidRequest for a folder that is not there or holds none, or files that are in no sub-folder.
    """
    from pyarrow import fs

    try:
        if place.filesystem.get_file_info(place.path).type is fs.FileType.File:
            raise InvalidRequest("must be a folder of folders, and is a file", PARAM)
        found = place.filesystem.get_file_info(fs.FileSelector(place.path, recursive=True))
    except FileNotFoundError:
        raise InvalidRequest("names a folder that is not there", PARAM) from None
    except (OSError, ValueError) as error:
        if "No such file or directory" in str(error):  # as it is told of Google's
            raise InvalidRequest("names a folder that is not there", PARAM) from None
        raise InvalidRequest("cannot be read: " + _why(error), PARAM) from None
    files = []
    for info in found:
        if info.type is not fs.FileType.File or not info.path.lower().endswith(SUFFIX):
            continue
        path = info.path.removeprefix(place.path).lstrip("/")
        namespace, slash, _ = path.partition("/")
        if not slash:
            raise InvalidRequest(f"holds {path!r} outside of a namespace's sub-folder", PARAM)
        if place.within:
            _checked_local(Path(info.path), place.within)
        check_namespace(namespace, PARAM)
        files.append(SourceFile("" if namespace == DEFAULT_NAMESPACE else namespace, path, info.size or 0))
    if not files:
        raise InvalidRequest("holds no Parquet files in sub-folders", PARAM)
    if len(files) > MAX_FILES:
        raise InvalidRequest(f"holds more than {MAX_FILES} files", PARAM)
    return sorted(files)


def _why(error: Exception) -> str:
    """What a storage answered, in words that hold no address, path or key of the server's."""
    text = str(error).upper()
    for mark, reason in _REASONS.items():
        if mark in text:
            return reason
    return "the storage did not answer as it should"


_REASONS: Mapping[str, str] = {
    "ACCESS_DENIED": "access is denied",
    "ACCESSDENIED": "access is denied",
    "ACCESS DENIED": "access is denied",
    "HTTP STATUS 403": "access is denied",
    "[AUTHORIZATION": "access is denied",  # Azure's AuthorizationFailure, AuthenticationFailed and their like
    "[AUTHENTICATION": "access is denied",
    "[NOAUTHENTICATIONINFORMATION": "access is denied",
    "[PUBLICACCESSNOTPERMITTED": "access is denied",
    "FORBIDDEN": "access is denied",
    "PERMISSION": "access is denied",
    "INVALIDACCESSKEYID": "access is denied",
    "SIGNATUREDOESNOTMATCH": "access is denied",
    "NO_SUCH_BUCKET": "the bucket is not there",
    "NOSUCHBUCKET": "the bucket is not there",
    "HTTP STATUS 404": "it is not there",
    "NETWORK": "the storage cannot be reached",
    "CONNECTION": "the storage cannot be reached",
    "TIMEOUT": "the storage cannot be reached",
}
