"""Pulling, by huggingface_hub itself, from a hub on loopback. It reads its environment when imported, so each pull is a
process of its own: the command line's."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub.utils._http import get_session

from pinyon.catalog import Catalogue
from pinyon.engine import hub
from pinyon.engine.hub import Repository
from pinyon.errors import Unavailable
from pinyon.testing import tiny_bert

OLD, NEW = "0" * 39 + "1", "0" * 39 + "2"
CLUTTER = {
    "README.md": b"# about",
    "pytorch_model.bin": b"\x80\x04 a pickle",
    "model.fp16.safetensors": b"the same again",
    "onnx/model.onnx": b"another program's",
    "onnx/config.json": b"{}",
    "modeling_custom.py": b"raise SystemExit('remote code ran')",
    "training_args.pkl": b"\x80\x04 a pickle",
}


@dataclass
class FakeHub:
    """Repositories by id, their revisions by name, the files of each commit; and what was asked for."""

    url: str = ""
    revisions: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)  # files that come with other bytes than the hub says
    break_after: int | None = None  # a file that is longer than this is cut off there, and then the hub is down
    is_down: bool = False
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range

    def add(self, repository: str, files: dict[str, bytes], commit: str = NEW, revision: str = "main") -> None:
        self.revisions.setdefault(repository, {})[revision] = commit
        self.files[repository, commit] = files

    def gets(self, name: str) -> list[str | None]:
        """The ranges asked for of a file."""
        return [span for method, path, span in self.asked if method == "GET" and path.endswith(f"/{name}")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        if self.hub.is_down:
            return self._answer(500, b"")
        if path.startswith("/api/models/"):
            repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            return self._describe(repository, revision)
        repository, _, rest = path.removeprefix("/").partition("/resolve/")
        commit, _, name = rest.partition("/")
        return self._file(repository, commit, name)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _describe(self, repository: str, revision: str) -> None:
        revisions = self.hub.revisions.get(repository)
        if revisions is None:
            return self._answer(401, b"{}", X_Error_Code="RepoNotFound")
        commit = revisions.get(revision, revision if (repository, revision) in self.hub.files else None)
        if commit is None:
            return self._answer(404, b"{}", X_Error_Code="RevisionNotFound")
        siblings = []
        for name, content in self.hub.files[repository, commit].items():
            sibling: dict[str, object] = {"rfilename": name, "size": len(content)}
            sibling["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        body = json.dumps({"_id": "1", "id": repository, "sha": commit, "siblings": siblings}).encode()
        return self._answer(200, body, Content_Type="application/json")

    def _file(self, repository: str, commit: str, name: str) -> None:
        if repository in self.hub.gated:
            return self._answer(403, b"{}", X_Error_Code="GatedRepo")
        content = self.hub.files[repository, commit][name]
        etag = hashlib.sha256(content).hexdigest()
        if name in self.hub.damaged:
            content = bytes(len(content))
        total, start = len(content), 0
        if (span := self.headers.get("Range")) is not None:
            start = int(span.removeprefix("bytes=").partition("-")[0])
        body = content[start:]
        headers = {"ETag": f'"{etag}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        if start:
            headers["Content_Range"] = f"bytes {start}-{total - 1}/{total}"
        limit = self.hub.break_after
        if self.command == "GET" and limit is not None and len(body) > limit:
            return self._broken(body, limit, etag, commit)
        return self._answer(206 if start else 200, body, **headers)

    def _broken(self, body: bytes, limit: int, etag: str, commit: str) -> None:
        """Says that all of it comes, sends less, and hangs up; then answers nobody any more."""
        self.send_response(200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:limit])
        self.close_connection = True
        self.hub.is_down = True


@pytest.fixture
def fake_hub() -> Iterator[FakeHub]:
    fake = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@dataclass
class Shell:
    """Runs `pinyon` in an empty folder, with a hub and a data folder of the test's own."""

    hub: FakeHub
    folder: Path

    def __call__(self, *arguments: str, text: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PINYON_", "HF_"))},
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.folder / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "PINYON_DATA_DIR": str(self.folder / "data"),
            "NO_PROXY": "127.0.0.1",
            **variables,
        }
        command = [sys.executable, "-c", "from pinyon.cli import main; main()", *arguments]
        return subprocess.run(
            command, env=environ, cwd=self.folder, input=text, capture_output=True, text=True, timeout=60
        )

    @property
    def models(self) -> Path:
        return self.folder / "data" / "models"

    def files(self, name: str) -> set[str]:
        folder = self.models / name
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def shell(fake_hub: FakeHub, tmp_path: Path) -> Shell:
    return Shell(fake_hub, tmp_path)


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return read_all(tiny_bert(tmp_path_factory.mktemp("tiny")))


def failed(done: subprocess.CompletedProcess[str], sentence: str) -> bool:
    """Whether it ended with exit status 1 and one line on stderr that holds this."""
    assert done.stderr.count("\n") == 1, done.stderr
    assert sentence in done.stderr, done.stderr
    return done.returncode == 1


def test_pull_fetches_the_model_and_nothing_else(shell: Shell, tiny: dict[str, bytes]) -> None:
    shell.hub.add("org/tiny", tiny | CLUTTER)
    done = shell("models", "pull", "org/tiny")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pinyon serve --model tiny=org/tiny" in done.stdout
    assert shell.files("org--tiny") == tiny.keys() | {"pinyon.json"}
    assert all((shell.models / "org--tiny" / name).read_bytes() == content for name, content in tiny.items())
    assert {path.name for path in shell.models.iterdir() if path.is_dir()} == {"org--tiny"}
    pulled = hub.record(shell.models / "org--tiny")
    assert pulled is not None
    assert (pulled.repository, pulled.revision, pulled.commit) == ("org/tiny", "main", NEW)
    assert not [path for _, path, _ in shell.hub.asked if path.rpartition("/")[2] in CLUTTER.keys() - {"config.json"}]


def test_pulled_model_embeds_under_the_name_it_is_given(shell: Shell, tiny: dict[str, bytes]) -> None:
    shell.hub.add("org/tiny", tiny)
    (shell.folder / "pinyon.toml").write_text('[models]\nmine = "org/tiny"\n')
    before = shell("embed", "--model", "mine", text="the cat\n")
    assert failed(before, "pinyon models pull mine")
    assert shell("models", "pull", "mine").returncode == 0
    asked = len(shell.hub.asked)
    after = shell("embed", "--model", "mine", text="the cat\n")
    assert after.returncode == 0, after.stderr
    assert len(json.loads(after.stdout)["embedding"]) == 32
    assert len(shell.hub.asked) == asked


def test_serve_pulls_what_it_is_told_to_serve(shell: Shell, tiny: dict[str, bytes]) -> None:
    shell.hub.add("org/tiny", tiny)
    with socket.socket() as taken:  # so that it ends once it has what it needs
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = shell("serve", "--model", "mine=org/tiny@main", "--port", str(taken.getsockname()[1]))
    assert "something else listens there" in done.stderr
    assert shell.files("org--tiny") == tiny.keys() | {"pinyon.json"}


@pytest.mark.parametrize("revision", [OLD, "v1"])
def test_pull_keeps_to_a_revision(shell: Shell, tiny: dict[str, bytes], revision: str) -> None:
    shell.hub.add("org/tiny", tiny | {"vocab.txt": b"old"}, commit=OLD, revision="v1")
    shell.hub.add("org/tiny", tiny | {"vocab.txt": b"new"}, commit=NEW)
    assert shell("models", "pull", f"org/tiny@{revision}").returncode == 0
    folder = shell.models / f"org--tiny@{revision}"
    assert (folder / "vocab.txt").read_bytes() == b"old"
    pulled = hub.record(folder)
    assert pulled is not None and pulled.commit == OLD


def test_pull_of_a_catalogue_model(shell: Shell, tiny: dict[str, bytes]) -> None:
    """By its own name, or by that of its repository: both go where the server looks for it, at the commit that is
    pinned."""
    source = Catalogue.build(shell.models).get("multilingual-e5-large").source
    assert source is not None and len(source.revision) == 40
    shell.hub.add("intfloat/multilingual-e5-large", tiny, commit=source.revision, revision=source.revision)
    shell.hub.add("intfloat/multilingual-e5-large", tiny | {"vocab.txt": b"changed"}, commit=NEW)
    assert shell("models", "pull", "multilingual-e5-large").returncode == 0
    assert "config.json" in shell.files("multilingual-e5-large")
    asked = len(shell.hub.asked)
    again = shell("models", "pull", "intfloat/multilingual-e5-large")
    assert again.returncode == 0
    assert len(shell.hub.asked) == asked + 1  # which commit it is; nothing of it has to come again
    listed = shell("models", "list").stdout.splitlines()
    assert [line for line in listed if line.startswith("multilingual-e5-large\t") and line.endswith("\tyes")]
    shown = shell("models", "show", "multilingual-e5-large").stdout
    assert f"intfloat/multilingual-e5-large at commit {source.revision}" in shown
    newest = shell("models", "pull", "multilingual-e5-large@main")
    assert f"at commit {NEW}" in newest.stdout


def test_pull_replaces_what_has_changed(shell: Shell, tiny: dict[str, bytes]) -> None:
    shell.hub.add("org/tiny", tiny | {"vocab.txt": b"old"}, commit=OLD)
    assert shell("models", "pull", "org/tiny").returncode == 0
    shell.hub.add("org/tiny", tiny, commit=NEW)
    assert shell("models", "pull", "org/tiny").returncode == 0
    assert shell.files("org--tiny") == tiny.keys() | {"pinyon.json"}


def test_pull_refuses_pickled_weights(shell: Shell, tiny: dict[str, bytes]) -> None:
    files = {name: content for name, content in tiny.items() if name != "model.safetensors"}
    shell.hub.add("org/old", files | {"pytorch_model.bin": b"\x80\x04"})
    done = shell("models", "pull", "org/old")
    assert failed(done, "pickled form (pytorch_model.bin)")
    assert not shell.models.exists()
    assert not shell.hub.gets("pytorch_model.bin")


@pytest.mark.parametrize(
    ("repository", "sentence"),
    [
        ("org/absent", "no repository 'org/absent'"),
        ("org/tiny@v9", "no revision 'v9'"),
        ("org/gated", "is gated: accept its terms at"),
        ("org/empty", "has no config.json"),
        ("org/unweighted", "no weights in model.safetensors"),
        ("../tiny", "neither a folder of this machine nor a hub repository"),
        ("pinecone-rerank-v0", "has no public weights"),
    ],
)
def test_pull_says_what_is_wrong(shell: Shell, tiny: dict[str, bytes], repository: str, sentence: str) -> None:
    shell.hub.add("org/tiny", tiny)
    shell.hub.add("org/gated", tiny)
    shell.hub.gated.add("org/gated")
    shell.hub.add("org/empty", {"README.md": b""})
    shell.hub.add("org/unweighted", {"config.json": b"{}"})
    assert failed(shell("models", "pull", repository), sentence)
    assert not [path for path in shell.models.glob("*") if not path.name.startswith(".")]


def test_pull_goes_on_after_it_was_broken_off(shell: Shell, tiny: dict[str, bytes]) -> None:
    # huggingface_hub saves what came in steps of 10 MiB.
    step = 10 * 2**20
    weights = os.urandom(step + 4096)
    shell.hub.add("org/tiny", tiny | {"model.safetensors": weights})
    shell.hub.break_after = step + 100
    assert failed(shell("models", "pull", "org/tiny"), "refuses org/tiny (status 500): try again later")
    assert not (shell.models / "org--tiny").exists()
    shell.hub.break_after, shell.hub.is_down = None, False
    assert shell("models", "pull", "org/tiny").returncode == 0
    assert (shell.models / "org--tiny" / "model.safetensors").read_bytes() == weights
    assert shell.hub.gets("model.safetensors")[-1] == f"bytes={step}-"
    assert len(shell.hub.gets("config.json")) == 2  # its own and 1_Pooling's, once each


def test_broken_connection_is_one_sentence() -> None:
    # Whatever HTTP client huggingface_hub uses: its errors are known by the module they come from.
    client = importlib.import_module(type(get_session()).__module__.partition(".")[0])
    error: Exception = client.ReadError("connection reset")
    with pytest.raises(Unavailable, match="broken off: pull again"), hub.explained(Repository("org/tiny")):
        raise error


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_pull_refuses_files_with_another_digest(shell: Shell, tiny: dict[str, bytes], name: str) -> None:
    shell.hub.add("org/tiny", tiny)
    shell.hub.damaged.add(name)
    assert failed(shell("models", "pull", "org/tiny"), "came damaged")
    assert not (shell.models / "org--tiny").exists()
    shell.hub.damaged.clear()
    assert shell("models", "pull", "org/tiny").returncode == 0


@pytest.mark.parametrize("variable", ["PINYON_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_nothing_of_the_network(shell: Shell, tiny: dict[str, bytes], variable: str) -> None:
    shell.hub.add("org/tiny", tiny)
    assert failed(shell("models", "pull", "org/tiny", **{variable: "1"}), variable)
    assert failed(shell("serve", "--model", "tiny=org/tiny", **{variable: "1"}), variable)
    assert shell.hub.asked == []


def test_unreachable_hub_is_one_sentence(shell: Shell) -> None:
    # A port that was free a moment ago and refuses connections: nothing listens on a bound socket that does not listen.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert failed(shell("models", "pull", "org/tiny", HF_ENDPOINT=endpoint), f"hub at {endpoint} cannot be reached")


def test_locate_knows_folders_and_what_was_pulled(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    assert hub.locate(str(folder), tmp_path) == folder
    assert hub.locate("org/name", tmp_path) is None
    with pytest.raises(Unavailable, match="There is no folder"):
        hub.locate(str(tmp_path / "absent"), tmp_path)
    with pytest.raises(Unavailable, match="neither a folder"):
        hub.locate("not a name", tmp_path)


@pytest.mark.parametrize(
    ("source", "repository"),
    [
        ("org/name", Repository("org/name")),
        ("org/name@v1.0", Repository("org/name", "v1.0")),
        ("gpt2", Repository("gpt2")),
        ("org/name@refs/pr/3", Repository("org/name", "refs/pr/3")),
    ],
)
def test_parse(source: str, repository: Repository) -> None:
    assert hub.parse(source) == repository
    assert str(repository) == source


@pytest.mark.parametrize(
    "source", ["", "a/b/c", "org/", "/name", "org/name@", "org/..", "..", "org/na me", "org/name@a..b"]
)
def test_parse_refuses_what_is_no_repository(source: str) -> None:
    with pytest.raises(Unavailable, match="hub repository id"):
        hub.parse(source)


def test_choose_prefers_the_shards_that_an_index_lists() -> None:
    names = ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"]
    names += [
        "model-00002-of-00002.safetensors",
        "consolidated.safetensors",
        "2_Dense/model.safetensors",
        "a/../b.json",
    ]
    assert set(hub.choose(names, Repository("a/b"))) == set(names) - {"consolidated.safetensors", "a/../b.json"}
