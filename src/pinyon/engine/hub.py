"""Fetching models from the Hugging Face hub: safetensors, tokenizer and configuration files, and nothing that runs.

A model is downloaded into a hidden folder beside its own and renamed when it is whole, so a model folder is either
complete or not there. What was broken off stays in the hidden folder, and the next pull goes on from it.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pinyon.errors import Unavailable

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

RECORD = "pinyon.json"

_REPOSITORY = re.compile(r"(?P<id>\w[\w.-]*(/\w[\w.-]*)?)(@(?P<revision>[\w][\w./-]*))?", re.ASCII)
# Files of the root that a model is read from, and the folders of sentence-transformers' modules (1_Pooling, 2_Dense).
_WANTED = re.compile(
    r"(\w[\w.-]*\.json|vocab\.txt|merges\.txt|\w[\w.-]*\.model|tokenizer[\w.-]*\.txt"
    r"|\d+_\w+/\w[\w.-]*\.(json|safetensors))",
    re.ASCII,
)
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors", re.ASCII)
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of the hub at a branch, a tag or a commit."""

    id: str
    revision: str = "main"

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"


class Pulled(msgspec.Struct, frozen=True):
    """What `pinyon.json` of a pulled model says: where it came from."""

    repository: str
    revision: str  # as asked for
    commit: str  # what that was
    files: dict[str, int]  # name -> bytes

    def is_of(self, repository: Repository) -> bool:
        return self.repository == repository.id and repository.revision in (self.revision, self.commit)


def parse(source: str) -> Repository:
    """`org/name` or `org/name@revision`. Raises Unavailable."""
    match = _REPOSITORY.fullmatch(source)
    if match is None or ".." in source or source.endswith(("/", ".")):
        raise Unavailable(f"{source!r} is neither a folder of this machine nor a hub repository id such as org/name")
    return Repository(match["id"], match["revision"] or "main")


def folder_of(models_dir: Path, repository: Repository) -> Path:
    """Where a repository goes that no model of the catalogue is made of."""
    return models_dir / str(repository).replace("/", "--")


def record(folder: Path) -> Pulled | None:
    """What was pulled into a folder, None if it was not pulled or not to the end."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Pulled)
    except (OSError, msgspec.MsgspecError):
        return None


def locate(source: str, models_dir: Path) -> Path | None:
    """The folder of a `NAME=SOURCE` setting, without touching the network: a folder of this machine, or a repository
    that was pulled before; None if it would have to be pulled. Raises Unavailable for what is neither."""
    folder = Path(source).expanduser() if source.startswith("~") else Path(source)
    if folder.is_dir():
        return folder
    if source.startswith(("/", "./", "../", "~")):
        raise Unavailable(f"There is no folder {source!r}")
    repository = parse(source)
    folder = folder_of(models_dir, repository)
    found = record(folder)
    return folder if found is not None and found.is_of(repository) else None


def ensure(source: str, models_dir: Path, *, offline: bool = False) -> Path:
    """As `locate`, and pulls what is not here. Raises Unavailable."""
    found = locate(source, models_dir)
    if found is not None:
        return found
    repository = parse(source)
    folder = folder_of(models_dir, repository)
    pull(repository, folder, offline=offline)
    return folder


def pull(repository: Repository, folder: Path, *, offline: bool = False) -> Pulled:
    """Downloads a repository into `folder`, in place of what is there. Shows progress if stderr is a terminal.

    Raises Unavailable, and leaves `folder` as it was, if the repository cannot be had, is not a model, has no
    safetensors weights, or did not come whole. With `offline` nothing is asked of the network.
    """
    if offline:
        raise Unavailable(f"{repository} is not on this machine, and offline mode (PINYON_OFFLINE) forbids fetching it")
    # Slow to import, and read by nothing that serves.
    import huggingface_hub.file_download  # noqa: F401 (it sets its logger's level, which is set below)
    from filelock import FileLock
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Its warnings are said again as errors, in one sentence.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()
    with explained(repository):
        commit, files = _listing(repository)
        wanted = {name: files[name] for name in choose(list(files), repository)}
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".{folder.name}.{commit}.part")
        with FileLock(folder.with_name(f".{folder.name}.lock")):  # a second pull of the same model waits
            if (there := record(folder)) is not None and _is_whole(there, folder, repository, commit):
                return there
            part.mkdir(exist_ok=True)
            _check_room(repository, wanted, part)
            # One after the other, smallest first: the weights take their time, and Ctrl-C stops them at once.
            for name in sorted(wanted, key=lambda name: (wanted[name].size or 0, name)):
                _download(repository, commit, name, wanted[name].size, part)
            _check_whole(repository, wanted, part)
            pulled = Pulled(
                repository=repository.id,
                revision=repository.revision,
                commit=commit,
                files={name: (part / name).stat().st_size for name in sorted(wanted)},
            )
            _put_in_place(part, folder, pulled)
    return pulled


def _download(repository: Repository, commit: str, name: str, size: int | None, part: Path) -> None:
    """One file into `part`, from where an earlier try ended. `size` in bytes, None if the hub does not say.

    huggingface_hub's own hf_hub_download starts a file again from its first byte, which may cost gigabytes.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    path = part / name
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.with_name(path.name + ".begun")
    with begun.open("ab") as file:
        if size is not None and file.tell() > size:
            file.truncate(0)
        http_get(
            hf_hub_url(repository.id, name, revision=commit),
            file,
            resume_size=file.tell(),
            # A compressed answer has no range to go on from.
            headers=build_hf_headers(library_name="pinyon") | {"Accept-Encoding": "identity"},
            expected_size=size,
            displayed_filename=name,
        )
    begun.rename(path)


def _listing(repository: Repository) -> tuple[str, dict[str, RepoSibling]]:
    """The commit that a revision is, and the files there."""
    from huggingface_hub import HfApi, constants

    try:
        info = HfApi(library_name="pinyon").model_info(
            repository.id, revision=repository.revision, files_metadata=True, timeout=30
        )
        if info.sha is None or info.siblings is None:
            raise ValueError("neither commit nor files")
    except (ValueError, TypeError, KeyError):
        # A portal or a mirror that answers with something else.
        raise Unavailable(f"What answers at {constants.ENDPOINT} is not a Hugging Face hub") from None
    return info.sha, {sibling.rfilename: sibling for sibling in info.siblings}


def choose(names: list[str], repository: Repository) -> list[str]:
    """The files of a repository that are fetched. Raises Unavailable if they make no model that Pinyon reads."""
    if "config.json" not in names:
        raise Unavailable(f"{repository} has no config.json: it is not a model in Hugging Face layout")
    # Many repositories carry the same weights several times, in other precisions or for other programs.
    if "model.safetensors.index.json" in names:
        weights = [name for name in names if _SHARD.fullmatch(name)]
    else:
        weights = [name for name in names if name == "model.safetensors"]
    if not weights:
        pickled = next((name for name in names if name.endswith(_PICKLED)), None)
        if pickled is not None:
            raise Unavailable(
                f"{repository} has its weights only in pickled form ({pickled}), which Pinyon does not load because "
                "unpickling a file can run any code: look for a revision or a copy of it with safetensors"
            )
        raise Unavailable(f"{repository} has no weights in model.safetensors")
    return weights + [name for name in names if _WANTED.fullmatch(name)]


def _is_whole(there: Pulled, folder: Path, repository: Repository, commit: str) -> bool:
    if there.repository != repository.id or there.commit != commit:
        return False
    paths = {name: folder / name for name in there.files}
    return all(path.is_file() and path.stat().st_size == there.files[name] for name, path in paths.items())


def _check_room(repository: Repository, wanted: Mapping[str, RepoSibling], part: Path) -> None:
    there = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    missing = sum(sibling.size or 0 for sibling in wanted.values()) - there
    free = shutil.disk_usage(part).free
    if missing > free:
        raise Unavailable(
            f"{repository} needs {missing / 1e9:.1f} GB more at {part.parent}, where {free / 1e9:.1f} GB are free"
        )


def _check_whole(repository: Repository, wanted: Mapping[str, RepoSibling], part: Path) -> None:
    """Sizes and digests of all files against what the hub said. A file that differs is removed."""
    for name, sibling in wanted.items():
        path = part / name
        if not path.is_file():
            raise Unavailable(f"{name} of {repository} did not come: pull it again")
        is_right = sibling.size is None or path.stat().st_size == sibling.size
        if is_right and sibling.lfs is not None:
            with path.open("rb") as file:
                is_right = hashlib.file_digest(file, "sha256").hexdigest() == sibling.lfs.sha256
        elif is_right and sibling.blob_id is not None:
            is_right = _blob_id(path) == sibling.blob_id
        if not is_right:
            path.unlink()
            raise Unavailable(f"{name} of {repository} came damaged and was removed: pull it again")


def _blob_id(path: Path) -> str:
    """What git calls a file of this content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _put_in_place(part: Path, folder: Path, pulled: Pulled) -> None:
    (part / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(pulled), indent=1) + b"\n")
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(old)
    part.rename(folder)
    for leftover in (
        old,
        *folder.parent.glob(f".{glob.escape(folder.name)}.*.part"),
    ):  # of broken-off pulls of other commits
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def explained(repository: Repository) -> Iterator[None]:
    """Gives what can go wrong with the hub, the network and the disk one sentence each."""
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.GatedRepoError:
        reason = (
            f"{repository} is gated: accept its terms at {constants.ENDPOINT}/{repository.id}, then set HF_TOKEN to a "
            "token of your account"
        )
    except errors.RepositoryNotFoundError:
        reason = f"The hub has no repository {repository.id!r}, or it is private and HF_TOKEN holds no token for it"
    except errors.RevisionNotFoundError:
        reason = f"{repository.id} has no revision {repository.revision!r}"
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        reason = f"The hub refuses {repository} (status {status})"
        if status in (401, 403):
            reason += ": set HF_TOKEN to a token that may read it"
        elif status == 429 or status >= 500:
            reason += ": try again later"
    except errors.OfflineModeIsEnabled:
        reason = f"{repository} is not on this machine, and HF_HUB_OFFLINE forbids fetching it"
    except errors.LocalEntryNotFoundError:
        reason = f"The hub at {constants.ENDPOINT} stopped answering while {repository} was fetched: pull it again"
    except OSError as error:
        # The disk's, or huggingface_hub's own words for a file that ended early.
        reason = f"{repository} cannot be stored: {error.strerror}" if error.strerror else _broken_off(repository)
    except (errors.XetDownloadError, RuntimeError):  # hf_xet, which fetches large files from the real hub
        reason = _broken_off(repository)
    except Exception as error:
        # Known by where it comes from: the HTTP client is huggingface_hub's choice, and has changed between versions.
        if not type(error).__module__.startswith("http"):
            raise
        stopped = type(error).__name__ in ("ReadError", "ReadTimeout", "RemoteProtocolError")
        reason = _broken_off(repository) if stopped else f"The hub at {constants.ENDPOINT} cannot be reached"
    else:
        return
    raise Unavailable(reason)


def _broken_off(repository: Repository) -> str:
    return f"The download of {repository} was broken off: pull again, and it goes on from there"
