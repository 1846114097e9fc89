"""A tiny folder of each family of models, in the family's own layout with random weights, and transformers' model.

What is imported of torch and transformers is imported when it is needed: only tests marked `oracle` come here.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from pinyon.testing import tiny_tokenizer

CORPUS = (
    "The quick brown fox jumps over the lazy dog, and a cat sat on the red mat.",
    "Pinecones open when they are dry, and close when it rains, to keep the seeds within.",
    "How do I bake bread? With flour, water, salt, yeast and time.",
    "Ünïcödé, naïve café, русский текст, emoji, and numbers like 3.14159 or 1,000,000.",
)
HIDDEN, LAYERS, HEADS, INNER, LONGEST = 32, 3, 4, 48, 64


@contextmanager
def quiet() -> Iterator[None]:
    """Other people's warnings are not this project's errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- tokenizers ----------------------------------------------------------------------------------------------------


def unigram() -> Tokenizer:
    """As XLM-RoBERTa has: <s> text </s>, and <s> one </s></s> other </s>."""
    words = sorted({word for text in CORPUS for word in text.split()})
    characters = sorted({character for text in CORPUS for character in text} | {"▁", "z", "q", "x"})
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("▁" + word, -4.0 - n / 10) for n, word in enumerate(words)]
    pieces += [(character, -9.0) for character in characters]
    pieces += [("<mask>", 0.0)]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def byte_level(single: str, specials: list[str], pair: str | None = None) -> Tokenizer:
    """As GPT-2 had, and Llama 3, Qwen and ModernBERT have: bytes, merged in pairs."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=330, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    used = [token for token in specials if token in single]
    tokenizer.post_processor = TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, tokenizer.token_to_id(token)) for token in used]
    )
    return tokenizer


def qwen_tokenizer() -> Tokenizer:
    return byte_level("$A <|endoftext|>", ["<|endoftext|>", "<|im_start|>"])


def llama_tokenizer() -> Tokenizer:
    return byte_level("<|begin_of_text|> $A", ["<|begin_of_text|>", "<|eot_id|>"])


def modernbert_tokenizer() -> Tokenizer:
    return byte_level("[CLS] $A [SEP]", ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"], "[CLS] $A [SEP] $B [SEP]")


def write_tokenizer_config(folder: Path, longest: int = LONGEST) -> None:
    """What sentence-transformers needs beside `tokenizer.json`: which tokens are special, and the limit."""
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    names = {"pad": ("[PAD]", "<pad>"), "unk": ("[UNK]", "<unk>"), "mask": ("[MASK]", "<mask>")}
    tokens = {f"{name}_token": next(one for one in choices if one in vocabulary) for name, choices in names.items()}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest, **tokens}
    config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


# --- models --------------------------------------------------------------------------------------------------------

COMMON: dict[str, object] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
}
WIDE: dict[str, object] = {
    "initializer_range": 0.2
}  # weights large enough that every part of a model shows in its answer


def _write(folder: Path, model: Any, tokenizer: Tokenizer, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def make(classes: tuple[str, str], vocabulary: int, seed: int, settings: Mapping[str, object]) -> Any:
    """A model of transformers' with random weights; biases and norms are random, too."""
    with quiet():
        import torch
        import transformers

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        config = getattr(transformers, classes[1])(vocab_size=vocabulary, **settings)
        model = getattr(transformers, classes[0])(config).eval()
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
                parameter.data = centre + 0.2 * torch.randn_like(parameter)
    return model


@dataclass(frozen=True, slots=True)
class Family:
    """`classes` are transformers' model and config. `change` makes of the saved config what is published."""

    classes: tuple[str, str]
    tokenizer: Callable[[], Tokenizer]
    settings: Mapping[str, object]
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config

    def build(self, folder: Path, seed: int = 0, **settings: object) -> Any:
        """Writes the folder, and gives transformers' model."""
        tokenizer = self.tokenizer()
        model = make(self.classes, tokenizer.get_vocab_size(), seed, {**self.settings, **settings})
        _write(folder, model, tokenizer, self.change)
        return model


def _as(model_type: str, **more: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda config: config | {"model_type": model_type, **more}


def _published_nomic(config: dict[str, Any]) -> dict[str, Any]:
    """The config of nomic-embed-text, which is GPT-2's with additions."""
    return {
        "model_type": "nomic_bert", "architectures": ["NomicBertModel"], "activation_function": "swiglu",
        "n_embd": config["hidden_size"], "n_head": config["num_attention_heads"],
        "n_layer": config["num_hidden_layers"],
        "n_inner": config["intermediate_size"], "n_positions": config["max_position_embeddings"],
        "layer_norm_epsilon": 1e-12, "prenorm": False, "qkv_proj_bias": False, "mlp_fc1_bias": False,
        "mlp_fc2_bias": False, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "type_vocab_size": 2, "use_rms_norm": False,
        "vocab_size": config["vocab_size"], "causal": False, "parallel_block": False,
    }  # fmt: skip


def _older_modernbert(config: dict[str, Any]) -> dict[str, Any]:
    """The config of ModernBERT as it was first published."""
    left = {key: value for key, value in config.items() if key not in ("layer_types", "rope_parameters")}
    return left | {"global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0}


def _older_rope(config: dict[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` apart, as before transformers 5."""
    parameters = dict(config.pop("rope_parameters"))
    return config | {"rope_theta": parameters.pop("rope_theta"), "rope_scaling": parameters}


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
DECODER = COMMON | WIDE | {"num_key_value_heads": 2, "max_position_embeddings": LONGEST, "head_dim": 16}

MODERNBERT: dict[str, object] = COMMON | {
    "initializer_range": 0.2, "num_hidden_layers": 4, "local_attention": 16, "pad_token_id": 3,
    "max_position_embeddings": LONGEST, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
}  # fmt: skip
XLMR: dict[str, object] = (
    COMMON | WIDE | {"max_position_embeddings": LONGEST + 2, "type_vocab_size": 1, "pad_token_id": 1}
)
DISTILBERT: dict[str, object] = WIDE | {
    "dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER, "max_position_embeddings": LONGEST,
}  # fmt: skip
BERT: dict[str, object] = COMMON | WIDE | {"max_position_embeddings": LONGEST}

FAMILIES: dict[str, Family] = {
    "xlm-roberta": Family(("XLMRobertaModel", "XLMRobertaConfig"), unigram, XLMR),
    "qwen3": Family(("Qwen3Model", "Qwen3Config"), qwen_tokenizer, DECODER),
    "bidirectional_pplx_qwen3": Family(
        ("Qwen3Model", "Qwen3Config"), qwen_tokenizer, DECODER | {"is_causal": False},
        _as("bidirectional_pplx_qwen3", architectures=["PPLXQwen3Model"]),
    ),
    "llama": Family(("LlamaModel", "LlamaConfig"), llama_tokenizer, DECODER | {"head_dim": 8}),
    "llama_bidirec": Family(
        ("LlamaModel", "LlamaConfig"), llama_tokenizer,
        DECODER | {"head_dim": 8, "is_causal": False, "rope_parameters": LLAMA3},
        lambda config: _as("llama_bidirec", architectures=["LlamaBidirectionalModel"])(_older_rope(config)),
    ),
    "modernbert": Family(("ModernBertModel", "ModernBertConfig"), modernbert_tokenizer, MODERNBERT),
    "modernbert, older": Family(
        ("ModernBertModel", "ModernBertConfig"), modernbert_tokenizer, MODERNBERT, _older_modernbert
    ),
    "distilbert": Family(("DistilBertModel", "DistilBertConfig"), tiny_tokenizer, DISTILBERT),
    "mpnet": Family(
        ("MPNetModel", "MPNetConfig"), unigram, COMMON | WIDE | {"max_position_embeddings": LONGEST + 2}
    ),
    "nomic_bert": Family(
        ("NomicBertModel", "NomicBertConfig"), tiny_tokenizer, BERT, _published_nomic
    ),
    "nomic_bert, transformers' own": Family(
        ("NomicBertModel", "NomicBertConfig"), tiny_tokenizer, BERT
    ),
}  # fmt: skip

# With a head on top: cross-encoders, and masked language models.
RANKERS: dict[str, Family] = {
    "bert": Family(("BertForSequenceClassification", "BertConfig"), tiny_tokenizer, BERT | {"num_labels": 1}),
    "xlm-roberta": Family(
        ("XLMRobertaForSequenceClassification", "XLMRobertaConfig"), unigram, XLMR | {"num_labels": 1}
    ),
    "distilbert": Family(
        ("DistilBertForSequenceClassification", "DistilBertConfig"), tiny_tokenizer, DISTILBERT | {"num_labels": 1}
    ),
    "modernbert": Family(
        ("ModernBertForSequenceClassification", "ModernBertConfig"), modernbert_tokenizer,
        MODERNBERT | {"num_labels": 1, "classifier_pooling": "mean"},
    ),
}  # fmt: skip
SPARSE: dict[str, Family] = {
    "bert": Family(("BertForMaskedLM", "BertConfig"), tiny_tokenizer, BERT),
    "xlm-roberta": Family(("XLMRobertaForMaskedLM", "XLMRobertaConfig"), unigram, XLMR),
    "distilbert": Family(("DistilBertForMaskedLM", "DistilBertConfig"), tiny_tokenizer, DISTILBERT),
    "modernbert": Family(("ModernBertForMaskedLM", "ModernBertConfig"), modernbert_tokenizer, MODERNBERT),
}


def hidden_states(model: Any, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The last layer's, [tokens, dim], of one sequence of token ids, in f32."""
    with quiet():
        import torch

        with torch.no_grad():
            given = torch.tensor(np.asarray(ids)[None].astype(np.int64))
            output = model(input_ids=given, attention_mask=torch.ones_like(given))
    return np.asarray(output.last_hidden_state[0].float())


def write_pooling(folder: Path, mode: str, *, normalise: bool = False, prompts: dict[str, str] | None = None) -> None:
    """The sentence-transformers files of a folder. `mode` is a name as in `pooling_mode_<mode>`."""
    steps = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    (folder / "modules.json").write_text(json.dumps([
        {"idx": n, "name": str(n), "path": paths[step], "type": f"sentence_transformers.models.{step}"}
        for n, step in enumerate(steps)
    ]))  # fmt: skip
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": HIDDEN} | {f"pooling_mode_{name}": name == mode for name in modes})
    )
    if prompts is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))


def texts() -> list[str]:
    """One word to past every tiny model's limit."""
    rng = np.random.default_rng(7)
    words = [*" ".join(CORPUS).split(), "unbelievable", "zebra", "cats"]
    return ["a", *(" ".join(rng.choice(words, size=size)) for size in (1, 2, 3, 5, 8, 13, 21, 34, 62, 100))]
