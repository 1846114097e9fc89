"""Where imports may read, and how each kind of URI becomes a file system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from pinyon.config import Integration
from pinyon.errors import InvalidRequest
from pinyon.services.import_sources import Place, Sources, list_files
from tests.services.import_files import table, write
from tests.services.import_surroundings import PUBLIC, no_credentials, resolve


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_credentials(monkeypatch, tmp_path)
    resolve(monkeypatch, PUBLIC)


def options(place: Place) -> dict[str, Any]:
    """What a file system was made with, as it would be made again elsewhere; what says nothing is left out."""
    reduced: Any = place.filesystem.__reduce__()
    made: dict[str, Any] = reduced[1][0]
    return {name: value for name, value in made.items() if value not in ("", None, False)}


# --- local folders ---------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for path in (folder, tmp_path / "elsewhere", tmp_path / "root-too"):
        write(path / "n" / "0.parquet", table(1))
    return folder


OUTSIDE = "is outside the folders that this server may import from"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc",
        "{tmp}",
        "{tmp}/elsewhere",
        "{tmp}/root-too",
        "{tmp}/root/../elsewhere",
        "{tmp}/root/%2e%2e/elsewhere",
        "{tmp}/root/link",
        "{tmp}/root/link/n",
        "{tmp}/root/round",
    ],
)
def test_a_folder_outside_is_refused(tmp_path: Path, root: Path, path: str) -> None:
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "round").symlink_to(root / "round")
    with pytest.raises(InvalidRequest) as caught:
        Sources([str(root)]).find("file://" + path.format(tmp=tmp_path), None)
    assert caught.value.param == ("uri",)
    if path:
        assert caught.value.reason == OUTSIDE


def test_without_roots_no_folder_may_be_read(root: Path) -> None:
    with pytest.raises(InvalidRequest, match=OUTSIDE):
        Sources().find(f"file://{root}", None)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_to_what_is_outside_is_refused(tmp_path: Path, root: Path, what: str) -> None:
    target = tmp_path / "elsewhere" / "n"
    if what == "file":
        (root / "n" / "1.parquet").symlink_to(target / "0.parquet")
    else:
        (root / "m").symlink_to(target)
    with pytest.raises(InvalidRequest, match=OUTSIDE):
        list_files(Sources([str(root)]).find(f"file://{root}", None))


def test_a_file_that_became_a_link_is_not_opened(tmp_path: Path, root: Path) -> None:
    place = Sources([str(root)]).find(f"file://{root}", None)
    (file,) = list_files(place)
    (root / "n" / "0.parquet").unlink()
    (root / "n" / "0.parquet").symlink_to(tmp_path / "elsewhere" / "n" / "0.parquet")
    with pytest.raises(InvalidRequest, match=OUTSIDE):
        place.open(file)


def test_a_link_within_is_right_and_so_is_a_root_that_is_one(tmp_path: Path, root: Path) -> None:
    (root / "m").symlink_to(root / "n")
    (tmp_path / "way").symlink_to(root)
    place = Sources([str(tmp_path / "way")]).find(f"file://localhost{tmp_path}/way", None)
    assert [(file.namespace, file.path) for file in list_files(place)] == [("m", "m/0.parquet"), ("n", "n/0.parquet")]


# --- URIs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "films",
        "/root",
        "http://account.blob.core.windows.net/films/x",
        "ftp://films/x",
        "hdfs://films/x",
        "s3://",
        "s3:///x",
        "s3://a/x",
        "s3://films@169.254.169.254/x",
        "s3://films:80/x",
        "s3://films?endpoint_override=127.0.0.1",
        "s3://films/x?region=us-east-1",
        "s3://films/x#y",
        "s3://films/../x",
        "s3://films/%2e%2e/x",
        "s3://films/\nx",
        "gs://-/x",
        "https://account.blob.core.windows.net/",
        "https://account.blob.core.windows.net/FILMS/x",
        "https://account.blob.core.windows.net:8443/films/x",
        "https://user:secret@account.blob.core.windows.net/films/x",
        "https://account.blob.core.windows.net.example.com/films/x",
        "https://example.com/films/x",
        "https://127.0.0.1/films/x",
        "https://[::1]/films/x",
        "https://10.0.0.1/films/x",
        "https://169.254.169.254/films/x",
        "https://2130706433/films/x",
        "https://localhost/films/x",
        "abfs://films@127.0.0.1/x",
        "abfs://films@10.0.0.1:10000/x",
        "az://films/x",
        "abfs://films/x",
        "file://host/root",
        "s3://films/" + "x" * 1500,
    ],
)
def test_what_is_no_place_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Sources().find(uri, None)
    assert caught.value.param == ("uri",)


PRIVATE = "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 ::1 fe80::1%eth0 fd00::1"


@pytest.mark.parametrize("address", PRIVATE.split())
def test_a_name_with_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolve(monkeypatch, PUBLIC, address)
    for uri in (
        "https://account.blob.core.windows.net/films/x",
        "abfss://films@account.dfs.core.windows.net/x",
    ):
        with pytest.raises(InvalidRequest, match="a host that this server does not import from"):
            Sources().find(uri, None)
    place = Sources(integrations={"own": Integration("azure", "https://account.blob.core.windows.net")}).find(
        "https://account.blob.core.windows.net/account/films/x", "own"
    )
    assert place.path == "films/x"


S3_DEFAULTS = {"load_frequency": 900, "background_writes": True, "connect_timeout": 5.0, "request_timeout": 30.0}


def test_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    place = Sources().find("s3://films/2019//new/", None)
    assert place.path == "films/2019/new"
    made = options(place)
    assert (made["region"], made["anonymous"], made["scheme"]) == ("eu-west-1", True, "https")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert "anonymous" not in options(Sources().find("s3://films/x", None))
    monkeypatch.setenv("THE_SECRET", "hush")
    integration = Integration(
        "s3", "http://localhost:9000", "us-west-2", access_key="k", secret_key="env:THE_SECRET", session_token="t"
    )
    made = options(Sources(integrations={"minio": integration}).find("s3://films", "minio"))
    assert (
        made.items()
        >= {
            "access_key": "k",
            "secret_key": "hush",
            "session_token": "t",
            "region": "us-west-2",
            "endpoint_override": "localhost:9000",
            "scheme": "http",
        }.items()
    )
    assert made.items() >= S3_DEFAULTS.items()


def test_gcs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = Sources().find("gs://films/x", None)
    assert isinstance(place.filesystem, fs.GcsFileSystem) and place.path == "films/x"
    made = options(place)
    assert made["anonymous"] is True and made["retry_time_limit"].total_seconds() == 30
    integration = Integration("gcs", "http://localhost:4443", anonymous=True)
    made = options(Sources(integrations={"fake": integration}).find("gs://films", "fake"))
    assert (made["endpoint_override"], made["scheme"], made["anonymous"]) == ("localhost:4443", "http", True)


KEY = "aGVsbG8="


def test_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Sources(
        integrations={
            "key": Integration("azure", account="account", account_key=KEY),
            "sas": Integration("azure", sas_token="env:SAS"),
            "emulator": Integration("azure", "http://127.0.0.1:10000", account="devstoreaccount1", account_key=KEY),
        }
    )
    monkeypatch.setenv("SAS", "sig=hush")
    for uri in ("https://account.blob.core.windows.net/films/a%20b", "abfs://films@account.dfs.core.windows.net/a b"):
        assert sources.find(uri, "key").path == "films/a b"
    made = options(sources.find("https://account.blob.core.windows.net/films/x", "key"))
    assert (made["account_name"], made["account_key"]) == ("account", KEY)
    assert made["blob_storage_authority"] == ".blob.core.windows.net" and "sas_token" not in made
    made = options(sources.find("https://account.blob.core.usgovcloudapi.net/films/x", "sas"))
    assert (made["account_name"], made["sas_token"]) == ("account", "?sig=hush")
    assert made["blob_storage_authority"] == ".blob.core.usgovcloudapi.net"
    assert made["dfs_storage_authority"] == ".dfs.core.usgovcloudapi.net"
    made = options(sources.find("az://films/x", "emulator"))
    assert (made["account_name"], made["blob_storage_authority"]) == ("devstoreaccount1", "127.0.0.1:10000")
    assert (made["blob_storage_scheme"], made["dfs_storage_scheme"]) == ("http", "http")
    place = sources.find("https://account.blob.core.windows.net/films/x", None)
    assert isinstance(place.filesystem, fs.AzureFileSystem) and "account_key" not in options(place)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    assert options(sources.find("az://films/x", None))["account_key"] == KEY
    other = sources.find("https://other.blob.core.windows.net/films/x", None)
    assert "account_key" not in options(other)


@pytest.mark.parametrize(
    "uri, id, reason",
    [
        ("s3://films/x", "unknown", "names no integration of this server"),
        ("s3://films/x", "azure", "is an integration of azure, which the uri is not"),
        ("gs://films/x", "azure", "is an integration of azure, which the uri is not"),
        ("https://account.blob.core.windows.net/films", "s3", "is an integration of s3, which the uri is not"),
        ("https://other.blob.core.windows.net/films", "azure", "is an integration of another account than the uri"),
        ("s3://films/x", "s3", "is an integration whose credentials this server does not have"),
        ("file:///films", "s3", "must not be given for a local folder"),
    ],
)
def test_integrations_that_do_not_fit_are_refused(uri: str, id: str, reason: str) -> None:
    integrations = {
        "azure": Integration("azure", account="account", account_key=KEY),
        "s3": Integration("s3", access_key="env:NOWHERE", secret_key="env:NOWHERE"),
    }
    with pytest.raises(InvalidRequest) as caught:
        Sources(integrations=integrations).find(uri, id)
    assert (caught.value.param, caught.value.reason) == (("integration_id",), reason)
