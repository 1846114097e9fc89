"""Starts PostgreSQL from Debian's packages on a cluster of its own, and runs against it too whatever needs a database:
the tests of the state, of the services and of the control plane. tests/grounds.py says how.

    python -m tests.state.postgres [pytest arguments]

Installs the package where it is missing and this user may. Nothing else of PostgreSQL on the machine is touched: the
cluster lives in a temporary folder, listens on a socket in it and on no port, and is gone afterwards.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

DEBIAN = Path("/usr/lib/postgresql")
TESTS = ["tests/state", "tests/services", *Path().glob("tests/dialects/pinecone/test_pinecone_control_*.py")]
ACCOUNT = "postgres"  # Debian's; PostgreSQL does not run as root


def binaries() -> Path:
    """The folder of the newest PostgreSQL there is; installs it as root. Exits with a message otherwise."""
    if (found := _newest()) is not None:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit("PostgreSQL is not here: apt-get install postgresql")
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], check=True, env=environ)
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", "postgresql"]
    subprocess.run(install, check=True, env=environ)
    if (found := _newest()) is None:
        sys.exit(f"apt-get installed postgresql, and there is none in {DEBIAN}")
    return found


def _newest() -> Path | None:
    versions = [path.parent for path in DEBIAN.glob("*/bin/initdb") if re.fullmatch(r"\d+", path.parts[-3])]
    return max(versions, key=lambda path: int(path.parts[-2]), default=None)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """A server of its own in `folder`; gives the URL of its first database."""
    programs = binaries()
    account = pwd.getpwuid(os.geteuid()).pw_name
    prefix: list[str] = []
    if os.geteuid() == 0:
        account = ACCOUNT
        prefix = ["runuser", "-u", ACCOUNT, "--"]
        shutil.chown(folder, ACCOUNT)
    data, log = folder / "data", folder / "log"
    control = [*prefix, f"{programs}/pg_ctl", "--silent", "--wait", f"--pgdata={data}"]
    initdb = [f"{programs}/initdb", f"--pgdata={data}", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
    if int(programs.parent.name) >= 15:
        # Sorts as people do and not by bytes, so that a test sees whoever relies on the database's order.
        initdb += ["--locale-provider=icu", "--icu-locale=en-US"]
    subprocess.run([*prefix, *initdb], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    # Nothing here has to outlive a crash, so it does not wait for the disk.
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    started = subprocess.run([*control, f"--log={log}", f"--options={options}", "start"], cwd=folder)
    if started.returncode != 0:
        sys.exit(f"PostgreSQL did not start:\n{log.read_text() if log.exists() else ''}")
    try:
        yield f"postgresql://{account}@/postgres?host={quote(str(folder), safe='')}"
    finally:
        subprocess.run([*control, "--mode=immediate", "stop"], check=True, cwd=folder)


def main() -> int:
    # Not below TMPDIR: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pinyon-postgres-", dir="/tmp") as folder, running(Path(folder)) as url:
        arguments = sys.argv[1:] or ["-q"]
        command = [sys.executable, "-m", "pytest", *map(str, TESTS), *arguments]
        return subprocess.run(command, env=os.environ | {"PINYON_TEST_POSTGRES": url}).returncode


if __name__ == "__main__":
    sys.exit(main())
