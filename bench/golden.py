"""Writes what the tests compare the bundled model with: vectors and token counts as sentence-transformers gives them.

Run it from the repository's root, with the extra `oracle`: python -m bench.golden
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from tests.engine.models.test_bert import GOLDEN, TEXTS

from pinyon.catalog import Catalogue


def main() -> None:
    catalogue = Catalogue.build(Path("/nonexistent"))
    model = SentenceTransformer(str(catalogue.folder(catalogue.get("all-minilm-l6-v2"))), device="cpu")
    vectors = model.encode(list(TEXTS), batch_size=1)
    np.save(GOLDEN / "all-minilm-l6-v2.npy", np.asarray(vectors, dtype=np.float32))
    encoded = model.tokenizer(list(TEXTS), truncation=True, max_length=model.max_seq_length)
    np.save(
        GOLDEN / "all-minilm-l6-v2-tokens.npy", np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int32)
    )


if __name__ == "__main__":
    main()
