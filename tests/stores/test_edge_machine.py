"""The embedded store, through the random histories of test_machine.py."""

from __future__ import annotations

from pinyon.stores.edge import EdgeStore

from .test_machine import Subject, drive


def test_the_embedded_store_does_what_memory_does() -> None:
    drive(Subject(lambda folder: EdgeStore(folder / "store", reserve=0), durable=True, histories=12))
