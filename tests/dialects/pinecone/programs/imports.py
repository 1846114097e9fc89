"""A bulk import, driven by whichever of Pinecone's Python SDKs is imported, at an index's host.

PINYON_TEST_URI is a folder of 1,500 good rows and one bad in the namespace `films`.
"""

from __future__ import annotations

import json
import os
import sys
import time

from tests.dialects.pinecone.programs.client import check_error, equal, exceptions, pinecone


def main(host: str) -> None:
    uri = os.environ["PINYON_TEST_URI"]
    index = pinecone.Pinecone(api_key="secret", host=host).Index(host=host)
    started = index.start_import(uri=uri, error_mode=pinecone.ImportErrorMode.CONTINUE)
    deadline = time.monotonic() + 60
    while (found := index.describe_import(id=started.id)).status in ("Pending", "InProgress"):
        assert time.monotonic() < deadline, found
    equal((found.status, found.uri, found.records_imported), ("Completed", uri, 1500))
    equal(found.percent_complete, 100.0)
    equal([each.id for each in index.list_imports()], [started.id])
    equal(index.describe_index_stats().namespaces["films"].vector_count, 1500)
    index.cancel_import(id=started.id)
    equal(index.describe_import(id=started.id).status, "Completed")
    try:
        index.start_import(uri=uri)
    except exceptions.PineconeException as error:
        check_error(error, 400, "which has records")
    else:
        raise AssertionError("an import into a namespace with records began")


if __name__ == "__main__":
    main(sys.argv[1])
    print(json.dumps({"version": pinecone.__version__}))
