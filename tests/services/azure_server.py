"""A server of Azure's blob storage, Microsoft's own emulator, in a process of its own, with two containers, one of
them public."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import pytest

from tests.node import SDKS

CONTAINER, PUBLIC = "films", "open"
# The one account that the emulator has, with the key that its documentation gives it.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
PROGRAM = SDKS / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
# Makes it hang up early: pyarrow now and then waits for more of an error's body than there is, until the server does.
PROMPT = Path(__file__).parent / "azurite" / "prompt.cjs"


def _token() -> str:
    """A SAS token that may do all, as the documentation of "Create an account SAS" has it."""
    fields = {"sp": "rwdlac", "ss": "b", "srt": "sco", "st": "", "se": "2100-01-01T00:00:00Z", "sip": "", "spr": ""}
    signed = "\n".join([ACCOUNT, *fields.values(), "2018-11-09", ""])
    digest = hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)
    given = {name: value for name, value in fields.items() if value}
    return urlencode({"sv": "2018-11-09", **given, "sig": base64.b64encode(digest).decode()})


TOKEN = _token()


@dataclass
class Azure:
    endpoint: str  # http://HOST:PORT
    container: str = CONTAINER

    def put(self, name: str, data: bytes) -> None:
        self._ask("PUT", name, data, {"x-ms-blob-type": "BlockBlob"})

    def get(self, name: str) -> bytes:
        return self._ask("GET", name).content

    def delete(self, name: str) -> None:
        self._ask("DELETE", name)

    def names(self) -> list[str]:
        listed = self._ask("GET", "", more="&restype=container&comp=list")
        return sorted(re.findall("<Name>(.*?)</Name>", listed.text))

    def upload(self, folder: Path, prefix: str) -> None:
        """Every file of a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())

    def make_containers(self) -> None:
        for at in (self, replace(self, container=PUBLIC)):
            access = {"x-ms-blob-public-access": "container"} if at.container == PUBLIC else {}
            at._ask("PUT", "", b"", access, more="&restype=container")

    def _ask(
        self, method: str, name: str, data: bytes = b"", headers: dict[str, str] | None = None, more: str = ""
    ) -> httpx.Response:
        url = f"{self.endpoint}/{ACCOUNT}/{self.container}/{quote(name)}".rstrip("/") + f"?{TOKEN}{more}"
        answer = httpx.request(method, url, content=data, headers={"x-ms-version": "2021-08-06"} | (headers or {}))
        return answer.raise_for_status()


@contextlib.contextmanager
def azure_server() -> Iterator[Azure]:
    if not PROGRAM.is_file():
        pytest.fail(f"{PROGRAM} is missing. Make it with: rm -f .venv/.sdk-azurite && make test")
    # pyarrow asks by a version of the protocol that is later than the emulator's.
    options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck"]
    command = ["node", "--require", str(PROMPT), str(PROGRAM), "--silent", *options]
    pipe, out = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, stdout=pipe, stderr=out, text=True) as process:
        assert process.stdout is not None
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if found := re.search(r"successfully listens on (http://\S+)", line):
                    break
            else:
                pytest.fail("".join(said))
            server = Azure(found[1])
            server.make_containers()
            yield server
        finally:
            process.kill()
