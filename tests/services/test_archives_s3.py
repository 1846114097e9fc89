"""Archives in an object store, through a real server of S3's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pinyon.errors import FailedPrecondition, Unavailable
from pinyon.services import archives
from pinyon.services.archives import Place, delete_archive, open_archive, write_archive

from .s3_server import BUCKET, KEYS, S3, s3_server
from .test_archives import HeldSnapshot, listed, read, some


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


def test_an_archive_in_a_bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["access_key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret_key"])
    monkeypatch.setattr(archives, "_PART_ROWS", 20)
    monkeypatch.setattr(archives, "_GROUP_ROWS", 10)
    options = f"endpoint_override={s3.endpoint.removeprefix('http://')}&scheme=http&region=us-east-1"
    held = {"": some(33), "empty": [], "n": some(17, 1)}

    def names() -> list[str]:
        found = s3.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return [item["Key"] for item in found if not item["Key"].endswith("/")]

    async def scenario() -> None:
        for folder in ("", "/some/where"):
            place = Place(f"s3://{BUCKET}{folder}?{options}")
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
            part = s3.client.get_object(Bucket=BUCKET, Key=f"{prefix}part-00001.parquet")["Body"].read()
            s3.client.put_object(Bucket=BUCKET, Key=f"{prefix}part-00001.parquet", Body=part[:-1] + b"?")
            with pytest.raises(FailedPrecondition, match="not as it was written"):
                await open_archive(place, "a")
            s3.client.delete_object(Bucket=BUCKET, Key=f"{prefix}part-00001.parquet")
            with pytest.raises(FailedPrecondition, match="is missing"):
                await open_archive(place, "a")
            for _ in range(2):
                await delete_archive(place, "a")
            assert names() == []
        with pytest.raises(Unavailable) as caught:
            await write_archive(Place(f"s3://absent?{options}"), "a", HeldSnapshot(held), {})
        assert "absent" not in caught.value.reason

    asyncio.run(scenario())
