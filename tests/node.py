"""Installs what a folder's package-lock.json has, from npm, into a folder of the same name in `.sdk`.

    python -m tests.node FOLDER

Installs Node.js from Debian's packages where it is missing and this user may.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SDKS = Path(__file__).parents[1] / ".sdk"


def npm() -> str:
    """The program; installs it as root. Exits with a message otherwise."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            sys.exit("Node.js is not here: apt-get install nodejs npm")
        environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=True, env=environ)
        install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", "nodejs", "npm", "ca-certificates"]
        subprocess.run(install, check=True, env=environ)
    found = shutil.which("npm")
    if found is None:
        sys.exit("apt-get installed npm, and there is none in PATH")
    return found


def main(folder: Path) -> None:
    program = npm()
    target = SDKS / folder.name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(folder / name, target)
    # Without warnings: Pinecone's SDK 9 asks for Node.js 22, and is content with 18.
    command = [program, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=target, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed in {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
