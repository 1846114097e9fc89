"""Archives in object stores, through real servers of their protocols: S3's, and Azure's own emulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pinyon.errors import FailedPrecondition, Unavailable
from pinyon.services import archives
from pinyon.services.archive_place import Place
from pinyon.services.archives import delete_archive, open_archive, write_archive
from pinyon.services.backups import RestoreSettings
from pinyon.state import CopyStatus, JobStatus, State
from pinyon.stores.memory import MemoryStore

from . import azure_server as azure
from . import s3_server as s3
from .azure_server import Azure
from .copying import Copying, everything, records
from .index_settings import settings
from .s3_server import S3
from .test_archives import HeldSnapshot, listed, read, some

Where = Callable[[str, str], str]  # the URI of a folder of a bucket


@pytest.fixture(scope="module")
def s3_store() -> Iterator[S3]:
    with s3.s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def azure_store() -> Iterator[Azure]:
    with azure.azure_server() as server:
        yield server


@pytest.fixture
def s3_where(s3_store: S3, monkeypatch: pytest.MonkeyPatch) -> Where:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.KEYS["access_key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.KEYS["secret_key"])
    options = f"endpoint_override={s3_store.endpoint.removeprefix('http://')}&scheme=http&region=us-east-1"
    return lambda bucket, folder: f"s3://{bucket}{folder}?{options}"


@pytest.fixture
def azure_where(azure_store: Azure, monkeypatch: pytest.MonkeyPatch) -> Where:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", azure.ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_KEY", azure.KEY)
    host = azure_store.endpoint.removeprefix("http://")
    options = f"blob_storage_authority={host}&dfs_storage_authority={host}&enable_tls=false"
    return lambda bucket, folder: f"abfs://{bucket}@{azure.ACCOUNT}.dfs.core.windows.net{folder}?{options}"


def test_an_archive_in_a_bucket(s3_store: S3, s3_where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    check_archive(s3_store, s3_where, s3.BUCKET, monkeypatch)


def test_an_archive_in_a_container(azure_store: Azure, azure_where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    check_archive(azure_store, azure_where, azure.CONTAINER, monkeypatch)


def check_archive(store: S3 | Azure, where: Where, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_PART_ROWS", 20)
    monkeypatch.setattr(archives, "_GROUP_ROWS", 10)
    held = {"": some(33), "empty": [], "n": some(17, 1)}

    def names() -> list[str]:
        return [name for name in store.names() if not name.endswith("/")]

    async def scenario() -> None:
        for folder in ("", "/some/where"):
            place = Place(where(bucket, folder))
            with pytest.raises(FailedPrecondition, match="never finished"):
                await open_archive(place, "a")
            info = await write_archive(place, "a", HeldSnapshot(held), {"x": "ü"})
            archive = await open_archive(place, "a")
            assert (archive.info, archive.description) == (info, {"x": "ü"})
            assert await read(archive) == listed(held)
            prefix = f"{folder}/a/".removeprefix("/")
            assert names() == [
                f"{prefix}{name}" for name in ("manifest.json", *(f"part-0000{n}.parquet" for n in range(3)))
            ]
            with pytest.raises(Unavailable, match="gone"):
                await write_archive(place, "b", HeldSnapshot(held, fails=Unavailable("gone")), {})
            assert len(names()) == 4
            store.put(f"{prefix}part-00001.parquet", store.get(f"{prefix}part-00001.parquet")[:-1] + b"?")
            with pytest.raises(FailedPrecondition, match="not as it was written"):
                await open_archive(place, "a")
            store.delete(f"{prefix}part-00001.parquet")
            with pytest.raises(FailedPrecondition, match="is missing"):
                await open_archive(place, "a")
            for _ in range(2):
                await delete_archive(place, "a")
            assert names() == []
        with pytest.raises(Unavailable) as caught:
            await write_archive(Place(where("absent", "")), "a", HeldSnapshot(held), {})
        assert "absent" not in caught.value.reason

    asyncio.run(scenario())


def test_a_backup_in_a_container_is_restored_by_a_token(
    azure_store: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the URI has the credentials, and the environment none."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    host = azure_store.endpoint.removeprefix("http://")
    where = f"abfs://{azure.ACCOUNT}@{host}/{azure.CONTAINER}/back%20ups?enable_tls=false&{azure.TOKEN}"

    async def scenario() -> None:
        state = await State.open(f"sqlite:///{tmp_path}/state.db")
        store = MemoryStore()
        it = Copying(state, store, tmp_path, where=where)
        await it.start()
        await it.indexes.create_index(settings("notes", dimension=4))
        index = await it.index("notes")
        for namespace in ("", "a b/日"):
            await index.upsert(namespace, records(7, [f"r{n}" for n in range(20)], 4))
        made = await it.backups.create_backup("notes")
        assert [job.status for job in await it.ended()] == [JobStatus.COMPLETED]
        backup = await it.backups.describe_backup(made.id)
        assert (backup.status, backup.record_count) == (CopyStatus.READY, 40)
        assert f"back ups/{made.id}/manifest.json" in azure_store.names()
        await it.backups.create_index_from_backup(made.id, RestoreSettings("again"))
        assert {job.status for job in await it.ended()} == {JobStatus.COMPLETED}
        assert await everything(await it.index("again")) == await everything(index)
        await it.close()
        await store.close()
        await state.close()

    asyncio.run(scenario())


def test_an_error_s_secrets_are_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*names: str) -> None:
        raise OSError("Failed: http://u:HUSH@127.0.0.1/films?se=2100&sig=HUSH%3D&sp=r Azure Error: [] 500")

    monkeypatch.setattr(Place, "writing", fails)
    with pytest.raises(Unavailable, match="The place of archives cannot be used"):
        asyncio.run(write_archive(Place(str(tmp_path)), "a", HeldSnapshot({"": some(1)}), {}))
    assert "http://...@127.0.0.1/films?se=2100&sig=...&sp=r Azure Error: [] 500" in caplog.text
    assert "HUSH" not in caplog.text


@pytest.mark.parametrize(
    "where",
    [
        "abfs://films@account.dfs.core.windows.net/x?enable_tls=false",
        "abfs://account@127.0.0.1:1/films/x?enable_tls=0",
        "abfs://account@127.0.0.1:1/films/x?enable_tls=false&client_id=a",
    ],
)
def test_no_token_goes_over_plain_http(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked all the same, pyarrow's client ends the process."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    with pytest.raises(Unavailable, match="The place of archives cannot be used: Permission denied"):
        asyncio.run(open_archive(Place(where), "a"))
