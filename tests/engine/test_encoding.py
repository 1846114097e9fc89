"""Encodings against written-out formulas: one value at a time, in Python's own arithmetic."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pinyon.engine.encoding import encode, unit
from pinyon.types import Encoding, FloatArray

matrices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20),
    elements=st.floats(-50, 50, width=32),
)


def half_to_even(value: float) -> int:
    low = math.floor(value)
    gap = value - low
    if gap == 0.5:
        return low if low % 2 == 0 else low + 1
    return low + (gap > 0.5)


@given(matrices)
@settings(deadline=None)
def test_binary_is_a_bit_where_x_is_not_negative_least_significant_first(pooled: FloatArray) -> None:
    packed = encode(pooled, dimension=None, encoding=Encoding.BINARY, normalise=True, int8="tanh")
    assert packed.dtype == np.uint8
    for row, values in zip(packed, pooled, strict=True):
        expected = [0] * -(-len(values) // 8)
        for position, value in enumerate(values):
            if value >= 0:
                expected[position // 8] |= 1 << (position % 8)
        assert row.tolist() == expected


@given(matrices)
@settings(deadline=None)
def test_int8_tanh_is_the_published_formula_of_the_pooled_vector(pooled: FloatArray) -> None:
    vectors = encode(pooled, dimension=None, encoding=Encoding.INT8, normalise=True, int8="tanh")
    assert vectors.dtype == np.int8
    for value, given_value in zip(pooled.ravel().tolist(), vectors.ravel().tolist(), strict=True):
        exact = math.tanh(value) * 127
        # float32 and float64 may fall on different sides of a half.
        assert given_value in {half_to_even(exact), half_to_even(exact - 1e-4), half_to_even(exact + 1e-4)}
        assert -127 <= given_value <= 127


@given(matrices)
@settings(deadline=None)
def test_int8_unit_is_127_times_the_unit_vector(pooled: FloatArray) -> None:
    vectors = encode(pooled, dimension=None, encoding=Encoding.INT8, normalise=False, int8="unit")
    for row, values in zip(vectors, pooled, strict=True):
        length = math.sqrt(sum(float(value) ** 2 for value in values))
        for got, value in zip(row, values, strict=True):
            exact = 127 * float(value) / length if length > 1e-9 else 127 * float(value) / 1e-12
            if length > 1e-9:
                assert abs(int(got) - exact) <= 0.5 + 1e-3


def test_int8_rounds_halves_to_even_and_keeps_the_sign() -> None:
    rows = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5]], dtype=np.float32) / 127
    tanh = np.arctanh(rows.astype(np.float64)).astype(np.float32)
    got = encode(tanh, dimension=None, encoding=Encoding.INT8, normalise=False, int8="tanh")
    assert np.abs(got - np.array([[0, 2, 2, 0, -2, -2]])).max() <= 1
    assert np.sign(got).tolist()[0][2] == 1 and np.sign(got).tolist()[0][5] == -1
    huge = encode(
        np.array([[1e30, -1e30]], np.float32), dimension=None, encoding=Encoding.INT8, normalise=False, int8="tanh"
    )
    assert huge.tolist() == [[127, -127]]


@given(matrices, st.data())
@settings(deadline=None)
def test_fewer_dimensions_commute_with_bits_and_tanh_and_come_before_the_norm(
    pooled: FloatArray, data: st.DataObject
) -> None:
    keep = data.draw(st.integers(1, pooled.shape[1]))
    for encoding in (Encoding.BINARY, Encoding.INT8):
        cut = encode(pooled, dimension=keep, encoding=encoding, normalise=False, int8="tanh")
        whole = encode(pooled[:, :keep].copy(), dimension=None, encoding=encoding, normalise=False, int8="tanh")
        assert np.array_equal(cut, whole)
    int8 = encode(pooled, dimension=None, encoding=Encoding.INT8, normalise=False, int8="tanh")
    assert np.array_equal(
        encode(pooled, dimension=keep, encoding=Encoding.INT8, normalise=False, int8="tanh"), int8[:, :keep]
    )
    vectors = encode(pooled, dimension=keep, encoding=Encoding.FLOAT32, normalise=True, int8="unit")
    assert vectors.shape[1] == keep
    np.testing.assert_allclose(vectors, unit(np.ascontiguousarray(pooled[:, :keep])), atol=1e-7)


@given(matrices)
@settings(deadline=None)
def test_unit_vectors_have_length_one_unless_they_are_zero(pooled: FloatArray) -> None:
    for row, values in zip(unit(pooled), pooled, strict=True):
        if np.linalg.norm(values) > 1e-6:
            assert abs(float(np.linalg.norm(row)) - 1) < 1e-5
    assert np.array_equal(unit(np.zeros((1, 3), np.float32)), np.zeros((1, 3), np.float32))


def test_a_model_that_does_not_normalise_is_left_as_it_is() -> None:
    pooled = np.array([[3.0, 4.0]], np.float32)
    same = encode(pooled, dimension=None, encoding=Encoding.FLOAT32, normalise=False, int8="unit")
    assert same.tolist() == [[3.0, 4.0]]
