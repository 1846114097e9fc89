#!/usr/bin/env bash
# Renews the locked requirements. Needs uv and npm. Locks carry hashes and no index's address.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() { uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"; }
# Everything is installed with --no-deps, so what a lock leaves out is not installed:
# openvino-telemetry serves OpenVINO's command-line tools only, and a server that keeps text in has no use for it;
# torch and what it brings is left to `make oracle`, since its build differs from machine to machine.
lock pyproject.toml --no-emit-package openvino-telemetry -o requirements/serve.txt
lock pyproject.toml --extra test --no-emit-package openvino-telemetry -c requirements/serve.txt -o requirements/test.txt
lock pyproject.toml --extra oracle --extra bench --no-emit-package openvino-telemetry -c requirements/test.txt \
    --override <(echo "torch ; python_version < '3'") -o requirements/oracle.txt
lock requirements/bench.in -o requirements/bench.txt
echo "setuptools>=77" | lock - -o requirements/build.txt
for major in 7 8 9; do lock requirements/pinecone$major.in -o requirements/pinecone$major.txt; done
for folder in tests/dialects/pinecone/typescript tests/services/azurite; do
    (cd $folder && npm install --package-lock-only --no-audit --no-fund)
done
