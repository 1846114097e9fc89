"""Makes the table of bm25-english: how important each term of English is, from the word frequencies of wordfreq.

    python -m pip install --no-deps wordfreq==3.1.1 msgpack==1.2.4 --target FOLDER
    PYTHONPATH=FOLDER python -m tools.bm25_background

wordfreq itself is not imported, only its list is read. That counts occurrences, and BM25 wants the share of passages
with a term: of passages of WORDS words, 1 - exp(-WORDS * frequency) hold it, if occurrences fall at random.
"""

from __future__ import annotations

import gzip
import importlib.util
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save_file

from pinyon.engine.bm25 import Analyser, Config
from pinyon.types import Truncate

WORDS = 180  # of a passage, stop words too: about 100 terms
RAREST = 1e-7  # of all words; what is rarer counts as unseen
FOLDER = Path(__file__).parent.parent / "src" / "pinyon" / "engine" / "bm25_english"

# In the list all numbers of several digits stand together, as 00 or 0000.
_NUMBER = re.compile(r"\d\d")


def frequencies() -> dict[str, float]:
    """Word -> share of all words, for English. The file holds lists of words, the n-th those of 10 ** (-n / 100)."""
    import msgpack

    found = importlib.util.find_spec("wordfreq")
    assert found is not None and found.origin is not None, "wordfreq is not here"
    packed = gzip.decompress((Path(found.origin).parent / "data" / "large_en.msgpack.gz").read_bytes())
    head, *levels = msgpack.unpackb(packed)
    assert head == {"format": "cB", "version": 1}
    return {word: 10 ** (-level / 100) for level, words in enumerate(levels) for word in words}


def main() -> None:
    config = msgspec.json.decode((FOLDER / "config.json").read_bytes(), type=Config)
    analyser = Analyser(config.stemmer, (FOLDER / "stop_words.txt").read_text("utf-8").split())
    shares: dict[int, float] = defaultdict(float)
    for word, frequency in frequencies().items():
        if _NUMBER.search(word):
            continue
        for part in analyser.words(word, 100, Truncate.END):
            if (term := analyser.term(part)) is not None:
                shares[term[0]] += frequency
    kept = sorted((index, share) for index, share in shares.items() if share >= RAREST)
    importance = [-math.log(-math.expm1(-WORDS * share)) for _, share in kept]
    tensors: dict[str, np.ndarray[tuple[Any, ...], np.dtype[Any]]] = {
        "hashes": np.array([index for index, _ in kept], np.uint32),
        "importance": np.array(importance, np.float16),
    }
    save_file(tensors, FOLDER / "model.safetensors")
    (FOLDER / "model.safetensors").chmod(0o644)
    print(f"{len(kept)} terms, of importance {min(importance):.3f} to {max(importance):.3f}")


if __name__ == "__main__":
    main()
