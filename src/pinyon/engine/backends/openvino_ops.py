"""`Ops` for OpenVINO: each operation adds a node to a graph.

The graph computes in one number format from end to end, f32 or bf16, and its weights are constants in that format.
Angles of rotary positions and pooling stay in f32 in either. With int8 it computes in f32, but for its linear layers:
their weights are int8 with a scale for each output, and the backend makes their inputs int8 as it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset15 as op

from pinyon.engine.backends import GraphError, Precision, Weight, Weights
from pinyon.engine.ops import Activation, Rotation, TokenTensors

Node = Any  # openvino's nodes have no useful type

_TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "int8": ov.Type.f32}


class OpenVinoOps:
    """`Ops`, each adding a node to a graph."""

    def __init__(self, weights: Weights, precision: Precision) -> None:
        self._weights = weights
        self._precision = precision
        self._masks: dict[tuple[bool, int | None], Node] = {}
        # What bf16 constants look at: whoever has the graph, or what was compiled from it, has to keep these too.
        self.shared: list[npt.NDArray[Any]] = []

    def weight(self, name: str, shape: tuple[int | None, ...]) -> Node:
        return self._constant(self._checked(name, shape))

    def _checked(self, name: str, shape: tuple[int | None, ...]) -> Weight:
        weight = self._weights(name)
        found = weight.array.shape
        if len(found) != len(shape) or any(b not in (None, a) for a, b in zip(found, shape, strict=True)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise GraphError(f"tensor {name!r} is {list(found)}, and [{wanted}] was expected")
        return weight

    def _quantised(self, name: str, shape: tuple[int, int]) -> Node:
        """A weight [out, in] as int8, with a scale for each output."""
        wide = _to_f32(self._checked(name, shape))
        scales = np.maximum(np.abs(wide).max(axis=1, keepdims=True) / np.float32(127), np.float32(1e-12))
        whole = op.constant(np.rint(wide / scales).astype(np.int8))
        return op.multiply(op.convert(whole, "f32"), op.constant(scales))

    def _constant(self, weight: Weight) -> Node:
        """In the graph's format, without a copy where the checkpoint's is the same."""
        if self._precision == "bf16":
            if weight.format != "BF16":
                bits = _to_bf16(weight.array.astype(np.float32, copy=False))
                return op.constant(ov.Tensor(bits, ov.Shape(bits.shape), ov.Type.bf16), shared_memory=False)
            array = np.ascontiguousarray(weight.array)
            self.shared.append(array)
            return op.constant(ov.Tensor(array, ov.Shape(array.shape), ov.Type.bf16), shared_memory=True)
        return op.constant(_to_f32(weight), shared_memory=True)

    def lookup(self, table: Node, rows: Node) -> Node:
        return op.gather(table, rows, _integers(0))

    def positions(self, ids: Node, first: int = 0) -> Node:
        return op.range(_integers(first), op.add(_length(ids), _integers(first)), _integers(1), "i32")

    def add(self, a: Node, b: Node) -> Node:
        return op.add(a, b)

    def multiply(self, a: Node, b: Node) -> Node:
        return op.multiply(a, b)

    def split(self, x: Node, parts: int) -> list[Node]:
        return list(op.split(x, _integers(-1), parts).outputs())

    def product(self, x: Node, weight: Node) -> Node:
        # What was pooled comes in f32.
        return op.matmul(self._narrow(x), weight, False, True)

    def linear(self, x: Node, name: str, size: int, *, bias: bool = True) -> Node:
        inside, shape = name + ".weight", (size, _size(x, -1))
        weight = self._quantised(inside, shape) if self._precision == "int8" else self.weight(inside, shape)
        product = self.product(x, weight)
        return op.add(product, self.weight(name + ".bias", (size,))) if bias else product

    def layer_norm(self, x: Node, name: str, epsilon: float, *, bias: bool = True) -> Node:
        shape = (_size(x, -1),)
        normal = op.mvn(x, _integers([-1]), True, epsilon, "inside_sqrt")
        scaled = op.multiply(normal, self.weight(name + ".weight", shape))
        return op.add(scaled, self.weight(name + ".bias", shape)) if bias else scaled

    def rms_norm(self, x: Node, name: str, epsilon: float) -> Node:
        # In f32, where a sum of squares keeps its digits; the backend knows this pattern and makes one kernel of it.
        wide = op.convert(x, "f32")
        square = op.reduce_mean(op.power(wide, _float(2.0)), _integers([-1]), True)
        normal = op.multiply(wide, op.divide(_float(1.0), op.sqrt(op.add(square, _float(epsilon)))))
        weight = op.convert(self.weight(name + ".weight", (_size(x, -1),)), "f32")
        return self._narrow(op.multiply(normal, weight))

    def activation(self, x: Node, kind: Activation) -> Node:
        if kind == "gelu":
            return op.gelu(x, "erf")
        if kind == "gelu_tanh":
            return op.gelu(x, "tanh")
        if kind == "log1p":
            return op.log(op.add(op.convert(x, "f32"), _float(1.0)))
        if kind == "silu":
            return op.swish(x, self._number(1.0))
        return op.relu(x) if kind == "relu" else op.tanh(x)

    def split_heads(self, x: Node, heads: int) -> Node:
        apart = op.reshape(x, _integers([0, 0, heads, -1]), True)
        return op.transpose(apart, _integers([0, 2, 1, 3]))

    def merge_heads(self, x: Node) -> Node:
        return op.reshape(op.transpose(x, _integers([0, 2, 1, 3])), _integers([0, 0, -1]), True)

    def rotation(self, ids: Node, frequencies: Sequence[float]) -> Rotation[Node]:
        positions = op.unsqueeze(op.convert(self.positions(ids), "f32"), _integers(1))  # [tokens, 1]
        twice = op.constant(np.array([*frequencies, *frequencies], dtype=np.float32))  # [head_dim]
        angles = op.multiply(positions, twice)
        return Rotation(self._narrow(op.cos(angles)), self._narrow(op.sin(angles)))

    def rotate(self, x: Node, rotation: Rotation[Node]) -> Node:
        low, high = op.split(x, _integers(-1), 2).outputs()
        turned = op.concat([op.multiply(high, self._number(-1.0)), low], -1)
        return op.add(op.multiply(x, rotation.cosine), op.multiply(turned, rotation.sine))

    def distance_bias(self, ids: Node, table: Node, rows: Sequence[int]) -> Node:
        positions = self.positions(ids)
        distances = op.subtract(op.unsqueeze(positions, _integers(0)), op.unsqueeze(positions, _integers(1)))
        shifted = op.add(distances, _integers(len(rows) // 2))  # [tokens, tokens]
        row = op.gather(op.constant(np.array(rows, dtype=np.int32)), shifted, _integers(0))
        bias = self.lookup(table, row)  # [tokens, tokens, heads]
        return op.unsqueeze(op.transpose(bias, _integers([2, 0, 1])), _integers(0))

    def attention(
        self, query: Node, key: Node, value: Node, mask: Node, *, causal: bool = False, window: int | None = None,
        bias: Node | None = None,
    ) -> Node:  # fmt: skip
        times = _size(query, 1) // _size(key, 1)
        key, value = (_repeat_heads(x, times) for x in (key, value))
        if (causal, window) not in self._masks:
            self._masks[causal, window] = _seen(mask, causal=causal, window=window)
        seen = self._masks[causal, window]
        if bias is not None:
            seen = op.select(seen, bias, self._number(-1e9))
        return op.scaled_dot_product_attention(query, key, value, seen)

    def mean_tokens(self, x: Node, tokens: TokenTensors[Node]) -> Node:
        flat = op.convert(_flat(x), "f32")
        token, span = op.split(tokens.members, _integers(1), 2).outputs()
        count = op.gather(op.shape_of(tokens.spans, output_type="i32"), _integers(0), _integers(0))
        # One span more, which takes what fills the members up.
        sums = op.embedding_segments_sum(
            flat, op.squeeze(token, _integers(1)), op.squeeze(span, _integers(1)), op.add(count, _integers(1))
        )
        sums = op.slice(sums, _integers([0]), op.unsqueeze(count, _integers(0)), _integers([1]), _integers([0]))
        starts, ends = op.split(tokens.spans, _integers(1), 2).outputs()
        return op.divide(sums, op.convert(op.subtract(ends, starts), "f32"))

    def max_tokens(self, x: Node, mask: Node) -> Node:
        return op.reduce_max(op.multiply(op.relu(x), self._narrow(_column(mask))), _integers(1))

    def sum_tokens(self, x: Node, mask: Node) -> Node:
        return op.reduce_sum(op.multiply(op.convert(x, "f32"), _column(mask)), _integers(1))

    def first_token(self, x: Node, tokens: TokenTensors[Node]) -> Node:
        return op.gather(_flat(x), op.gather(tokens.spans, _integers(0), _integers(1)), _integers(0))

    def last_token(self, x: Node, tokens: TokenTensors[Node]) -> Node:
        last = op.subtract(op.gather(tokens.spans, _integers(1), _integers(1)), _integers(1))
        return op.gather(_flat(x), last, _integers(0))

    def _narrow(self, x: Node) -> Node:
        return x if x.get_element_type() == _TYPES[self._precision] else op.convert(x, _TYPES[self._precision])

    def _number(self, value: float) -> Node:
        return op.constant(value, dtype=_TYPES[self._precision])


def _to_f32(weight: Weight) -> npt.NDArray[np.float32]:
    if weight.format == "BF16":
        return (weight.array.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(weight.array, dtype=np.float32)


def _to_bf16(array: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of each value as bf16, to the nearest, halves to even."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    return np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, dtype=np.uint16)


def _seen(mask: Node, *, causal: bool, window: int | None) -> Node:
    """What each token sees, as booleans that broadcast to [batch, heads, tokens, tokens].

    Padding stands at the end, so that no token sees it behind a causal mask.
    """
    tokens = op.not_equal(mask, _integers(0))
    if not causal and window is None:
        return op.unsqueeze(tokens, _integers([1, 2]))  # [batch, 1, 1, tokens]
    # Compared, not subtracted: what is as large as tokens x tokens holds booleans alone.
    positions = op.range(_integers(0), _length(mask), _integers(1), "i32")
    keys, queries = op.unsqueeze(positions, _integers(0)), op.unsqueeze(positions, _integers(1))
    near = []
    if causal:
        near.append(op.less_equal(keys, queries))
    if window is not None:
        near.append(op.less_equal(keys, op.add(queries, _integers(window))))
        near.append(op.greater_equal(keys, op.subtract(queries, _integers(window))))
    seen = reduce(op.logical_and, near)  # [tokens, tokens]
    if causal:
        return op.unsqueeze(seen, _integers([0, 1]))
    # Padding sees its neighbours, whatever they are: a token that saw nothing would be NaN.
    shown = op.logical_or(op.unsqueeze(tokens, _integers(1)), op.unsqueeze(op.logical_not(tokens), _integers(2)))
    return op.unsqueeze(op.logical_and(shown, op.unsqueeze(seen, _integers(0))), _integers(1))


def _repeat_heads(x: Node, times: int) -> Node:
    """[batch, heads, tokens, head_dim] -> [batch, heads * times, tokens, head_dim], each head `times` times."""
    if times == 1:
        return x
    wide = op.broadcast(op.unsqueeze(x, _integers(2)), _integers([1, 1, times, 1, 1]), broadcast_spec="BIDIRECTIONAL")
    return op.reshape(wide, _integers([0, _size(x, 1) * times, -1, _size(x, 3)]), True)


def _size(x: Node, axis: int) -> int:
    """A size that is known before the graph runs."""
    output = x if isinstance(x, ov.Output) else x.output(0)
    shape = output.get_partial_shape()
    return int(shape[axis % len(shape)].get_length())


def _length(ids: Node) -> Node:
    """The padded length of [batch, tokens], as a number."""
    return op.gather(op.shape_of(ids, output_type="i32"), _integers(1), _integers(0))


def _flat(x: Node) -> Node:
    """[batch, tokens, dim] -> [batch * tokens, dim]."""
    return op.reshape(x, _integers([-1, _size(x, -1)]), False)


def _column(mask: Node) -> Node:
    return op.unsqueeze(op.convert(mask, "f32"), _integers(2))  # [batch, tokens, 1]


def _integers(values: int | list[int]) -> Node:
    return op.constant(np.array(values, dtype=np.int32))


def _float(value: float) -> Node:
    return op.constant(np.array(value, dtype=np.float32))
