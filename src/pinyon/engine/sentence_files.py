"""What the sentence-transformers files of a model folder say: modules and their configs, prompts, limits.

Everything that is wrong with one of them is one ModelError that names it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import msgspec

from pinyon.engine.heads import Pooling, Splade, SpladeActivation
from pinyon.engine.weights import ModelError

SETTINGS = "config_sentence_transformers.json"


@dataclass(frozen=True, slots=True)
class Modules:
    """What stands behind the encoder. `splade` is there instead of a pooling for a model of sparse vectors."""

    pooling: Pooling | None = None
    normalise: bool = False
    tanh: bool = False  # vectors are made int8 of their tanh, as pplx-embed's are
    splade: Splade | None = None


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON object. Raises ModelError."""
    try:
        value = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file, and {what} was expected") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not readable as {what}: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not {what}: a JSON object was expected")
    return value


def read_optional(path: Path, what: str) -> dict[str, Any]:
    return read_json(path, what) if path.is_file() else {}


def read_modules(folder: Path) -> Modules | None:
    """`modules.json`, or None where there is none."""
    path = folder / "modules.json"
    if not path.is_file():
        return None
    try:
        modules = msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not readable as a list of modules: {error}") from None
    found = Modules()
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        inside = str(module.get("path", ""))
        if Path(inside).is_absolute() or ".." in Path(inside).parts:
            raise ModelError(f"{path}: names a module outside its folder")
        match kind:
            case "Transformer" | "MLMTransformer":
                pass
            case "Pooling":
                found = replace(found, pooling=_pooling(folder / inside / "config.json"))
            case "Normalize":
                found = replace(found, normalise=True)
            case "SpladePooling":
                found = replace(found, splade=_splade(folder / inside / "config.json"))
            # NOTE: perplexity-ai/pplx-embed-v1-*, st_quantize.py: the API's numeric forms, which are the engine's here.
            case "FlexibleQuantizer":
                found = replace(found, tanh=True)
            case _:
                known = "Transformer, Pooling, Normalize, SpladePooling"
                raise ModelError(f"{path}: module {kind!r} is not one that Pinyon runs ({known})")
    return found


def _pooling(path: Path) -> Pooling:
    config = read_json(path, "a pooling module's config.json")
    # Newer folders name one mode, older ones have a switch for each.
    modes = {name.removeprefix("pooling_mode_"): on for name, on in config.items() if name.startswith("pooling_mode_")}
    mode = config.get("pooling_mode")
    if config.get("include_prompt") is False:
        raise ModelError(f"{path}: pooling without the prompt's tokens (include_prompt false) is not supported")
    chosen = mode if isinstance(mode, str) else next((name for name, on in modes.items() if on is True), None)
    if sum(on is True for on in modes.values()) > 1:
        raise ModelError(f"{path}: several pooling modes at once are not supported")
    known: dict[str | None, Pooling] = {
        "mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "lasttoken": "last",
    }  # fmt: skip
    if chosen not in known:
        raise ModelError(f"{path}: pooling {chosen!r} is not one that Pinyon runs (mean, cls, lasttoken)")
    return known[chosen]


def _splade(path: Path) -> Splade:
    config = read_json(path, "a SPLADE module's config.json")
    strategy, activation = config.get("pooling_strategy", "max"), config.get("activation_function", "relu")
    if strategy not in ("max", "sum"):
        raise ModelError(f"{path}: pooling_strategy {strategy!r} is not one that Pinyon runs (max, sum)")
    if activation not in get_args(SpladeActivation):
        raise ModelError(f"{path}: activation_function {activation!r} is not one that Pinyon runs (relu, log1p_relu)")
    return Splade(strategy, activation)


def read_prompts(folder: Path) -> tuple[dict[str, str], str]:
    """Prefixes by name, and the one of a text for which no prompt is asked."""
    path = folder / SETTINGS
    config = read_optional(path, "sentence-transformers' settings")
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ModelError(f"{path}: prompts must be texts by name")
    default = config.get("default_prompt_name")
    if default is None:
        return prompts, ""
    if default not in prompts:
        raise ModelError(f"{path}: default_prompt_name {default!r} is not one of its prompts")
    return prompts, prompts[default]


def read_max_tokens(folder: Path, positions: int) -> int:
    """The smallest limit that the folder states; `positions` is the architecture's own."""
    limits = [positions]
    sentence = read_optional(folder / "sentence_bert_config.json", "sentence-transformers' limits")
    tokenizer = read_optional(folder / "tokenizer_config.json", "a tokenizer's settings")
    for stated in (sentence.get("max_seq_length"), tokenizer.get("model_max_length")):
        # Folders without a limit carry a very large number.
        if isinstance(stated, int | float) and not isinstance(stated, bool) and 0 < stated < 1e9:
            limits.append(int(stated))
    return min(limits)


def read_separator(folder: Path) -> str | None:
    """The tokenizer's `sep_token`, which is a text or an object with its content."""
    token = read_optional(folder / "tokenizer_config.json", "a tokenizer's settings").get("sep_token")
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
