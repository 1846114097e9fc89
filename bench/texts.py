"""Real paragraphs that every machine has: the documentation that comes with Python itself."""

from __future__ import annotations

import ast
import pydoc_data.topics
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

COUNT = 3000


def paragraphs(count: int = COUNT) -> list[str]:
    """`count` different paragraphs, of about 30 tokens on average, in a fixed order for a version of Python."""
    found = dict.fromkeys(text for source in _sources() for text in _split(source))
    texts = sorted(found)
    random.Random(0).shuffle(texts)
    if len(texts) < count:
        raise RuntimeError(f"this Python's documentation has {len(texts)} paragraphs, fewer than {count}")
    return texts[:count]


def _sources() -> Iterator[str]:
    yield from (str(topic) for topic in pydoc_data.topics.topics.values())
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted([*library.glob("*.py"), *library.glob("asyncio/*.py"), *library.glob("email/*.py")]):
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""


def _split(source: str) -> Iterator[str]:
    for part in re.split(r"\n\s*\n|(?<=[.:])\s{1,2}(?=[A-Z])", source):
        text = " ".join(part.split())
        # Sentences, not tables, signatures or grammar.
        if 60 <= len(text) <= 400 and re.match(r"[A-Z][a-z]+ [a-z]", text):
            yield text
