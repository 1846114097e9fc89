"""Where each setting comes from, and how each kind of mistake is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pinyon.config import Config, ConfigError, Integration, Limits, find_file, load, parse_models


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, so that no pinyon.toml of this machine is read."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


TABLES = "tables with a kind (s3, gcs or azure) and texts: endpoint_override, region, keys and tokens"

# Setting -> the file's line and its value, the variable's text and its value, the flag's value and what it becomes.
SOURCES: dict[str, tuple[tuple[str, Any], tuple[str, Any], tuple[Any, Any]]] = {
    "host": (('"10.0.0.1"', "10.0.0.1"), ("::1", "::1"), ("localhost", "localhost")),
    "port": (("1", 1), ("2", 2), ("3", 3)),
    "tls_cert": (('"/a"', "/a"), ("/b", "/b"), ("/c", "/c")),
    "tls_key": (('"/a"', "/a"), ("/b", "/b"), ("/c", "/c")),
    "data_dir": (('"/a"', "/a"), ("/b", "/b"), ("/c", "/c")),
    "models": (
        ('{ a = "org/1", b = "org/1" }', {"a": "org/1", "b": "org/1"}),
        ("b=org/2 c=org/2", {"a": "org/1", "b": "org/2", "c": "org/2"}),
        (("c=org/3",), {"a": "org/1", "b": "org/2", "c": "org/3"}),
    ),
    "preload": (('["a"]', ("a",)), ("b c", ("b", "c")), (("d",), ("d",))),
    "precision": (('"f32"', "f32"), ("bf16", "bf16"), ("int8", "int8")),
    "threads": (("1", 1), ("2", 2), ("3", 3)),
    "memory_budget": (('"8GB"', "8GB"), ("500MB", "500MB"), ("12.5%", "12.5%")),
    "api_keys": (('["a"]', ("a",)), ("b c", ("b", "c")), (("d",), ("d",))),
    "no_auth": (("false", False), ("yes", True), (False, False)),
    "offline": (("true", True), ("off", False), (True, True)),
    "log_format": (('"json"', "json"), ("text", "text"), ("json", "json")),
    "indexes": (("false", False), ("yes", True), (False, False)),
    "index_hosts": (('"path"', "path"), ("http://{index}.a", "http://{index}.a"), ("ports", "ports")),
    "index_ports": (('"2000-2001"', "2000-2001"), ("3000-3000", "3000-3000"), ("4000-5000", "4000-5000")),
    "state_url": (
        ('"sqlite:////a"', "sqlite:////a"),
        ("sqlite:////b", "sqlite:////b"),
        ("sqlite:////c", "sqlite:////c"),
    ),
    "backup_dir": (('"/a"', "/a"), ("s3://b/c", "s3://b/c"), ("gs://d", "gs://d")),
    "import_roots": (('["/a"]', ("/a",)), ("/b /c", ("/b", "/c")), (("/d",), ("/d",))),
    "aliases": (('{ x = "a" }', {"x": "a"}), ("y=b", {"x": "a", "y": "b"}), ({"x": "c"}, {"x": "c", "y": "b"})),
    "stand_ins": (('{ x = "a" }', {"x": "a"}), ("y=b", {"x": "a", "y": "b"}), (("x=c",), {"x": "c", "y": "b"})),
    "all_stand_ins": (("true", True), ("off", False), (True, True)),
    "prices": (("{ x = 1 }", {"x": 1.0}), ("y=0.5", {"x": 1.0, "y": 0.5}), ({"x": 2.0}, {"x": 2.0, "y": 0.5})),
}


@pytest.mark.parametrize("name", [setting.name for setting in msgspec.structs.fields(Config)])
def test_flag_wins_over_variable_over_file_over_default(name: str, folder: Path) -> None:
    if name in ("limits", "integrations"):  # have sources of their own, below
        return
    (line, from_file), (text, from_variable), (flag, from_flag) = SOURCES[name]
    default = getattr(Config(), name)
    assert getattr(load({}, {}), name) == default
    (folder / "pinyon.toml").write_text(f"{name} = {line}\n")
    assert getattr(load({}, {}), name) == from_file
    environ = {f"PINYON_{name.upper()}": text}
    assert getattr(load({}, environ), name) == from_variable
    assert getattr(load({name: flag}, environ), name) == from_flag


def test_integrations_stand_in_the_file_and_show_no_keys(folder: Path) -> None:
    (folder / "pinyon.toml").write_text(
        'import_roots = ["in", "~/in", "/in"]\n'
        '[integrations.minio]\nkind = "s3"\nendpoint_override = "http://h:9000"\nsecret_key = "hush"\n'
    )
    config = load({}, {})
    assert config.integrations == {"minio": Integration("s3", endpoint_override="http://h:9000", secret_key="hush")}
    assert config.import_roots == (str(folder / "in"), "~/in", "/in")
    assert "hush" not in repr(config)


def test_limits_are_merged_one_by_one(folder: Path) -> None:
    (folder / "pinyon.toml").write_text("[limits]\nbatch_tokens = 1\nmax_wait_ms = 2\n")
    config = load({}, {"PINYON_BATCH_TOKENS": "3", "PINYON_MAX_CONNECTIONS": "4"})
    assert config.limits == Limits(batch_tokens=3, max_wait_ms=2, max_connections=4)


@pytest.mark.parametrize("limit", [limit.name for limit in msgspec.structs.fields(Limits)])
def test_every_limit_has_a_variable(limit: str) -> None:
    assert getattr(load({}, {f"PINYON_{limit.upper()}": "7"}).limits, limit) == 7


def test_singular_variables_add_to_the_plural_ones() -> None:
    environ = {"PINYON_API_KEYS": "a b", "PINYON_API_KEY": "c", "PINYON_MODELS": "x=org/x", "PINYON_MODEL": "y=org/y"}
    config = load({}, environ)
    assert config.api_keys == ("a", "b", "c")
    assert config.models == {"x": "org/x", "y": "org/y"}
    assert load({}, {"PINYON_API_KEY": "c"}).api_keys == ("c",)


def test_empty_variables_count_as_not_set(folder: Path) -> None:
    (folder / "pinyon.toml").write_text('port = 1\napi_keys = ["a"]\n')
    config = load({}, {"PINYON_PORT": "", "PINYON_API_KEYS": "", "PINYON_CONFIG": "", "PINYON_BATCH_TOKENS": ""})
    assert (config.port, config.api_keys) == (1, ("a",))


def test_which_file_is_read(folder: Path) -> None:
    assert find_file({}) is None
    (folder / "pinyon.toml").write_text("port = 1\n")
    (folder / "other.toml").write_text("port = 2\n")
    (folder / "third.toml").write_text("port = 3\n")
    assert load({}, {}).port == 1
    assert load({}, {"PINYON_CONFIG": "other.toml"}).port == 2
    assert load({}, {"PINYON_CONFIG": "other.toml"}, Path("third.toml")).port == 3


def test_folders_of_the_file_are_relative_to_it(folder: Path) -> None:
    (folder / "etc" / "here").mkdir(parents=True)
    path = folder / "etc" / "pinyon.toml"
    path.write_text(
        'data_dir = "data"\nbackup_dir = "b"\n'
        '[models]\na = "./x"\nb = "../x"\nc = "here"\nd = "org/x"\ne = "/x"\nf = "~/x"\n'
    )
    config = load({}, {}, path)
    etc = str(path.parent)
    assert config.data_dir == f"{etc}/data"
    assert config.backup_dir == f"{etc}/b"
    assert config.models == {
        "a": f"{etc}/x",
        "b": f"{etc}/../x",
        "c": f"{etc}/here",
        "d": "org/x",
        "e": "/x",
        "f": "~/x",
    }
    assert load({"data_dir": "data"}, {}, path).data_dir == "data"


def test_where_backups_are(folder: Path) -> None:
    assert Config(data_dir="d").backups == str(Path("d") / "backups")
    (folder / "pinyon.toml").write_text('data_dir = "d"\nbackup_dir = "gs://bucket/path?a=b"')
    assert load({}, {}).backups == "gs://bucket/path?a=b"
    for wrong in ("ftp://a/b", "s3://", "\0", "S3://a", "https://key:secret@a/b"):
        with pytest.raises(ConfigError, match=r"^--backup-dir: must be a folder, or a URI that begins") as caught:
            load({"backup_dir": wrong}, {})
        assert "secret" not in str(caught.value)


def test_data_path(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert Config().models_path == Path("/home/someone/.local/share/pinyon/models")
    assert Config(data_dir="~/d").data_path == Path("/home/someone/d")
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert Config().data_path == Path("/xdg/pinyon")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigError, match="--data-dir"):
        _ = Config().data_path


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prot = 1", "pinyon.toml: prot: there is no such setting, did you mean 'port'?"),
        ("[limits]\nbatch = 1", "pinyon.toml: limits.batch: there is no such setting"),
        ("port = '1'", "pinyon.toml: port: must be a whole number from 0 to 65535, not '1'"),
        ("port = 65536", "pinyon.toml: port: must be a whole number from 0 to 65535, not 65536"),
        ("port = true", "pinyon.toml: port: must be a whole number from 0 to 65535, not True"),
        ("host = ''", "pinyon.toml: host: must be an address or a host name, not ''"),
        ("precision = 'f16'", "pinyon.toml: precision: must be auto, f32, bf16 or int8, not 'f16'"),
        ("no_auth = 'yes'", "pinyon.toml: no_auth: must be true or false, not 'yes'"),
        ("models = ['a']", "pinyon.toml: models: must be names"),
        ("[models]\n'../a' = 'x'", "pinyon.toml: models: must be names"),
        ("[models]\na = ''", "pinyon.toml: models: must be names"),
        ("[prices]\na = -1", "pinyon.toml: prices: must be model names with a number of USD"),
        ("[prices]\na = nan", "pinyon.toml: prices: must be model names with a number of USD"),
        ('[integrations.a]\nkind = "s4"\nsecret_key = "hush"', f"pinyon.toml: integrations: must be {TABLES}"),
        ('[integrations.a]\nkind = "s3"\nsecret = "hush"', f"pinyon.toml: integrations: must be {TABLES}"),
        (
            '[integrations.a]\nkind = "s3"\nendpoint_override = "ftp://h"',
            f"pinyon.toml: integrations: must be {TABLES}",
        ),
        ("limits = 3", "pinyon.toml: limits: must be a table of limits, not 3"),
        ("[limits]\nbatch_tokens = 0", "pinyon.toml: limits.batch_tokens: must be a whole number above 0, not 0"),
        ("port 1", "pinyon.toml: is not TOML: "),
    ],
)
def test_mistakes_of_the_file_name_the_file_and_the_setting(text: str, sentence: str, folder: Path) -> None:
    (folder / "pinyon.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load({}, {})
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_unreadable_files(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^absent\.toml: there is no such file$"):
        load({}, {}, Path("absent.toml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load({}, {}, folder)
    (folder / "pinyon.toml").write_bytes(b"host = '\xff'")
    with pytest.raises(ConfigError, match=r"pinyon\.toml: is not UTF-8 text"):
        load({}, {})


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("PINYON_PORT", "tcp://10.0.0.1:5080", "PINYON_PORT: must be a whole number from 0 to 65535, not 'tcp:"),
        ("PINYON_OFFLINE", "maybe", "PINYON_OFFLINE: must be true or false, not 'maybe'"),
        ("PINYON_MODEL", "minilm", "PINYON_MODEL: 'minilm' is not of the form NAME=SOURCE"),
        ("PINYON_PRICES", "a=much", "PINYON_PRICES: must be model names with a number of USD"),
        ("PINYON_BATCH_TOKENS", "-1", "PINYON_BATCH_TOKENS: must be a whole number above 0, not '-1'"),
    ],
)
def test_mistakes_of_a_variable_name_it(variable: str, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({}, {variable: text})
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("port", "x", "--port"),
        ("models", ("x",), "--model"),
        ("log_format", "xml", "--log-format"),
        ("data_dir", "\0", "--data-dir"),
    ],
)
def test_mistakes_of_a_flag_name_it(name: str, value: object, flag: str) -> None:
    with pytest.raises(ConfigError, match=f"^{flag}: "):
        load({name: value}, {})


@pytest.mark.parametrize("key", ["", "two words", "ключ", "tab\t"])
def test_wrong_keys_are_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^--api-key: must be a list of keys") as caught:
        load({"api_keys": (key,)}, {})
    assert not key or key not in str(caught.value)


def test_config_made_in_code_is_checked_too() -> None:
    with pytest.raises(ValueError, match=r"^api_keys: "):
        Config(api_keys=("a b",))
    with pytest.raises(ValueError, match=r"^prices: "):
        Config(prices={"a": float("inf")})


@pytest.mark.parametrize("word", ["", "=", "a=", "=b", "a"])
def test_parse_models_refuses(word: str) -> None:
    with pytest.raises(ConfigError, match="NAME=SOURCE"):
        parse_models([word])


def test_parse_models_keeps_later_equal_signs() -> None:
    assert parse_models(["a=/x=y", "b=org/c@d"]) == {"a": "/x=y", "b": "org/c@d"}


DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"


def test_every_setting_is_documented() -> None:
    rows = [line.split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    documented = {row[0].strip("| `"): row for row in rows}
    settings = {setting.name for setting in msgspec.structs.fields(Config)} - {"limits", "integrations"}
    limits = {limit.name: limit.default for limit in msgspec.structs.fields(Limits)}
    assert documented.keys() == settings | limits.keys()
    for name, row in documented.items():
        assert f"`PINYON_{name.upper()}`" in " ".join(row)
    assert {name: int(documented[name][2]) for name in limits} == limits


def test_the_documented_file_is_right(folder: Path) -> None:
    (folder / "pinyon.toml").write_text(DOCS.read_text().partition("```toml\n")[2].partition("```")[0])
    config = load({}, {})
    assert config.limits.batch_tokens == 1024
    assert config.integrations["minio"].secret_key == "env:MINIO_SECRET_KEY"
    assert config.models == {"mine": f"{folder}/models/mine", "e5": "intfloat/e5-small-v2"}
