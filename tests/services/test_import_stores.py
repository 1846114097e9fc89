"""Imports from object stores, through real servers of their protocols: S3's, Google's and Azure's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinyon.config import Integration
from pinyon.errors import InvalidRequest
from pinyon.services.import_sources import SourceFile, Sources, list_files
from pinyon.state import JobStatus
from tests.services import azure_server as azure
from tests.services.gcs_server import gcs_server
from tests.services.import_files import run, server, table, write
from tests.services.import_surroundings import PUBLIC, no_credentials, resolve
from tests.services.s3_server import BUCKET, KEYS, S3, s3_server

KEY = "aGVsbG8="  # of nobody


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_credentials(monkeypatch, tmp_path)
    resolve(monkeypatch, PUBLIC)


# --- S3 --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as made:
        yield made


def integration(s3: S3, **changes: Any) -> dict[str, Integration]:
    options: dict[str, Any] = KEYS | changes
    return {"store": Integration("s3", s3.endpoint, "us-east-1", **options)}


def test_files_of_a_bucket(s3: S3, tmp_path: Path) -> None:
    write(tmp_path / "in" / "__default__" / "0.parquet", table(1))
    write(tmp_path / "in" / "n" / "b" / "0.parquet", table(2))
    (tmp_path / "in" / "n" / "notes.txt").write_text("ignored")
    s3.upload(tmp_path / "in", "a folder/of files")
    place = Sources(integrations=integration(s3)).find(f"s3://{BUCKET}/a folder/of files/", "store")
    found = list_files(place)
    sizes = [(tmp_path / "in" / path).stat().st_size for path in ("__default__/0.parquet", "n/b/0.parquet")]
    assert found == [SourceFile("", "__default__/0.parquet", sizes[0]), SourceFile("n", "n/b/0.parquet", sizes[1])]
    with place.open(found[0]) as file:
        assert file.size() == sizes[0]


@pytest.mark.parametrize(
    "uri, reason",
    [
        (f"s3://{BUCKET}/nothing", "names a folder that is not there"),
        ("s3://no-such-bucket/x", "cannot be read: the bucket is not there"),
    ],
)
def test_what_is_not_in_the_store_is_refused(s3: S3, uri: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        list_files(Sources(integrations=integration(s3)).find(uri, "store"))
    assert caught.value.reason == reason


def test_a_store_that_does_not_answer_is_named_by_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        port = taken.getsockname()[1]
        given = integration(S3(f"http://127.0.0.1:{port}", None))
        with pytest.raises(InvalidRequest) as caught:
            list_files(Sources(integrations=given).find(f"s3://{BUCKET}/x", "store"))
    assert caught.value.reason == "cannot be read: the storage cannot be reached"


def test_an_import_from_s3(s3: S3, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "in" / "n" / "0.parquet", table(2500, "a"))
    write(tmp_path / "in" / "m" / "0.parquet", table(700, "b"))
    s3.upload(tmp_path / "in", "import")

    async def test() -> None:
        async with server(tmp_path, integrations=integration(s3)) as made:
            done = await made.started(f"s3://{BUCKET}/import", integration_id="store")
            assert (done.status, done.imported) == (JobStatus.COMPLETED, 3200)
            assert await made.counts() == {"m": 700, "n": 2500}
            assert KEYS["secret_key"] not in repr(await made.state.list_jobs())

    with caplog.at_level("DEBUG"):
        run(test)
    assert KEYS["secret_key"] not in caplog.text


def test_an_object_that_goes_meanwhile_fails_the_import(s3: S3, tmp_path: Path) -> None:
    for at in range(4):
        write(tmp_path / "in" / "n" / f"{at}.parquet", table(2000, f"{at}-"))
    s3.upload(tmp_path / "in", "going")

    async def test() -> None:
        async with server(tmp_path, integrations=integration(s3)) as made:
            begun = await made.imports.start_import("i", f"s3://{BUCKET}/going", integration_id="store")
            while (await made.imports.describe_import("i", begun.id)).imported == 0:
                await asyncio.sleep(0)
            s3.client.delete_object(Bucket=BUCKET, Key="going/n/3.parquet")
            await made.jobs.wait(begun.id)
            done = await made.imports.describe_import("i", begun.id)
            assert done.status is JobStatus.FAILED and done.imported == 6000
            assert done.error == "The uri holds n/3.parquet, which cannot be read"

    run(test)


# --- Google Cloud Storage --------------------------------------------------------------------------------------------


def test_an_import_from_gcs(tmp_path: Path) -> None:
    write(tmp_path / "in" / "n" / "0.parquet", table(2500, "a"))
    write(tmp_path / "in" / "__default__" / "0.parquet", table(700, "b"))
    with gcs_server() as gcs:
        gcs.upload(tmp_path / "in", "a/folder")
        given = {"store": Integration("gcs", gcs.endpoint, anonymous=True)}

        async def test() -> None:
            async with server(tmp_path, integrations=given) as made:
                done = await made.started("gs://films/a/folder", integration_id="store")
                assert (done.status, done.imported) == (JobStatus.COMPLETED, 3200)
                assert await made.counts() == {"": 700, "n": 2500}

        run(test)
        for uri in ("gs://films/nothing", "gs://no-such-bucket/x"):
            with pytest.raises(InvalidRequest, match="names a folder that is not there"):
                list_files(Sources(integrations=given).find(uri, "store"))


# --- Azure -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def azure_store() -> Iterator[azure.Azure]:
    with azure.azure_server() as made:
        yield made


def azure_integration(store: azure.Azure, **credentials: Any) -> dict[str, Integration]:
    return {"store": Integration("azure", store.endpoint, account=azure.ACCOUNT, **credentials)}


@pytest.mark.parametrize(
    "container, credentials",
    [
        (azure.CONTAINER, {"account_key": azure.KEY}),
        (azure.CONTAINER, {"sas_token": azure.TOKEN}),
        (azure.CONTAINER, {"sas_token": "?" + azure.TOKEN}),
        (azure.PUBLIC, {"anonymous": True}),
    ],
)
def test_an_import_from_azure(
    azure_store: azure.Azure,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    container: str,
    credentials: dict[str, Any],
) -> None:
    write(tmp_path / "in" / "n" / "a b.parquet", table(2500, "a"))
    write(tmp_path / "in" / "__default__" / "0.parquet", table(700, "b"))
    replace(azure_store, container=container).upload(tmp_path / "in", "a folder/of files")
    given = azure_integration(azure_store, **credentials)
    by_host = f"https://{azure.ACCOUNT}.blob.core.windows.net/{container}/a%20folder/of%20files"

    async def test() -> None:
        async with server(tmp_path, integrations=given) as made:
            done = await made.started(by_host, integration_id="store")
            assert (done.status, done.imported, done.error) == (JobStatus.COMPLETED, 3200, None)
            assert await made.counts() == {"": 700, "n": 2500}
            assert azure.KEY not in repr(await made.state.list_jobs())

    caplog.clear()
    with caplog.at_level("DEBUG"):
        run(test)
    assert azure.KEY not in caplog.text and "sig=" not in caplog.text
    found = list_files(Sources(integrations=given).find(f"az://{container}/a folder/of files/", "store"))
    assert [file.path for file in found] == ["__default__/0.parquet", "n/a b.parquet"]


@pytest.mark.parametrize(
    "uri, credentials, reason",
    [
        (f"az://{azure.CONTAINER}/nothing", {"account_key": azure.KEY}, "names a folder that is not there"),
        ("az://no-such-container/x", {"account_key": azure.KEY}, "names a folder that is not there"),
        (f"az://{azure.CONTAINER}/x", {"account_key": KEY}, "cannot be read: access is denied"),
        (f"az://{azure.CONTAINER}/x", {"sas_token": azure.TOKEN + "x"}, "cannot be read: access is denied"),
        (f"az://{azure.CONTAINER}/x", {"anonymous": True}, "cannot be read: access is denied"),
        # Not even asked: pyarrow's client would end the process.
        (f"az://{azure.CONTAINER}/x", {}, "is an integration whose credentials this server does not have"),
    ],
)
def test_what_azure_does_not_give_is_refused(
    azure_store: azure.Azure, uri: str, credentials: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        list_files(Sources(integrations=azure_integration(azure_store, **credentials)).find(uri, "store"))
    assert caught.value.reason == reason


def test_a_blob_that_goes_meanwhile_fails_the_import(azure_store: azure.Azure, tmp_path: Path) -> None:
    for at in range(4):
        write(tmp_path / "in" / "n" / f"{at}.parquet", table(2000, f"{at}-"))
    azure_store.upload(tmp_path / "in", "going")

    async def test() -> None:
        async with server(tmp_path, integrations=azure_integration(azure_store, account_key=azure.KEY)) as made:
            begun = await made.imports.start_import("i", f"az://{azure.CONTAINER}/going", integration_id="store")
            while (await made.imports.describe_import("i", begun.id)).imported == 0:
                await asyncio.sleep(0)
            await asyncio.to_thread(azure_store.delete, "going/n/3.parquet")
            await made.jobs.wait(begun.id)
            done = await made.imports.describe_import("i", begun.id)
            assert done.status is JobStatus.FAILED and done.imported == 6000
            assert done.error == "The uri holds n/3.parquet, which cannot be read"

    run(test)
