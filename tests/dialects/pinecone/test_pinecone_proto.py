"""The generated code is what its .proto says: `make proto` would change nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parents[3] / "src"
FOLDER = Path("pinyon/dialects/pinecone/data/proto")


def test_the_generated_code_is_of_this_proto(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(SOURCES)]
    command += [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", str(SOURCES / FOLDER / "vector_service.proto")]
    subprocess.run(command, check=True, timeout=60)
    for name in ("vector_service_pb2.py", "vector_service_pb2.pyi"):
        assert (tmp_path / FOLDER / name).read_text() == (SOURCES / FOLDER / name).read_text(), "run: make proto"
