"""What crosses between judge and worker: values come back as they were, and bytes that are no message are refused."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.grading.protocol import (
    FRAME_BYTES,
    LENGTHS,
    CrossingError,
    ProtocolError,
    frame_lengths,
    pack,
    unpack,
)


def crossed(value):
    frame = pack({"value": value})
    header, payload = frame_lengths(frame[: LENGTHS.size])
    assert len(frame) == LENGTHS.size + header + payload
    return unpack(frame[LENGTHS.size : LENGTHS.size + header], frame[LENGTHS.size + header :])["value"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 9) | st.tuples(st.integers(0, 3)), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_values_come_back_as_they_were(value) -> None:
    found = crossed(value)
    assert found == value
    assert repr(found) == repr(value)  # a list is a list, True is not 1


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u8", "f2", "f4", "f8", ">f8"])
def test_arrays_keep_dtype_and_shape(dtype: str) -> None:
    for shape in ((), (0, 3), (2, 3), (2, 1, 2)):
        array = np.ones(shape, dtype=dtype)
        found = crossed([array, array])[1]
        assert (found.shape, found.dtype) == (shape, np.dtype(dtype).newbyteorder("="))
        assert np.array_equal(found, array)
        assert found.flags.writeable


def test_tensors_scalars_and_views_keep_what_they_are() -> None:
    tensor = crossed(torch.arange(3.0, requires_grad=True))
    assert torch.equal(tensor, torch.arange(3.0))
    assert not tensor.requires_grad
    assert type(crossed(np.float32(0.5))) is np.float32
    assert np.isnan(crossed(float("nan")))
    assert np.array_equal(crossed(np.arange(6.0).reshape(2, 3).T), np.arange(6.0).reshape(2, 3).T)


def test_what_may_not_cross_is_named() -> None:
    loop: list = []
    loop.append(loop)
    for value, said in [
        (object(), "object cannot cross"),
        (lambda: 0, "function cannot cross"),
        (b"x", "bytes cannot cross"),
        (1j, "complex cannot cross"),
        ({1, 2}, "set cannot cross"),
        (np.array([object()]), "object cannot cross"),
        (np.array(["a"]), "cannot cross"),
        (np.ones(2, dtype=complex), "complex128 cannot cross"),
        (torch.ones(2, dtype=torch.bfloat16), "cannot cross"),
        (2**63, "63 bits"),
        (10**100_000, "63 bits"),
        ("x" * 2**17, "characters"),
        (loop, "contain itself"),
        ([0] * 60_000, "parts"),
        (np.zeros(FRAME_BYTES + 1, dtype=np.int8), "bytes"),
        ([np.zeros(2**24, dtype=np.int8)] * 3, "bytes"),
    ]:
        with pytest.raises(CrossingError, match=said):
            pack({"value": value})


@pytest.mark.parametrize(
    "body, payload",
    [
        (b"[]", b""),
        (b"\xff\xfe", b""),
        (b"[" * 100_000, b""),
        (b'{"v": {"a": 1}}', b""),
        (b'{"v": ["pickle", "x"]}', b""),
        (b'{"v": []}', b""),
        (b'{"v": [[]]}', b""),
        (b'{"v": ["array", "object", [1]]}', bytes(8)),
        (b'{"v": ["array", "float64", [-1]]}', b""),
        (b'{"v": ["array", "float64", [1.0]]}', bytes(8)),
        (b'{"v": ["array", "float64", [true]]}', bytes(8)),
        (b'{"v": ["array", "float64", [2]]}', bytes(8)),
        (b'{"v": ["array", "float64", [1]]}', bytes(9)),
        (b'{"v": ["array", "int8", [0, 2147483647, 2147483647, 2147483647]]}', b""),
        (b'{"v": ["array", "int8", [1099511627776, 1099511627776]]}', b""),
        (b'{"v": ["array", "bool", [1]]}', b"\x02"),
        (b'{"v": ["scalar", "float64", [1]]}', bytes(8)),
        (b'{"v": ["list", [["array", "int8", [4]], ["array", "int8", [4]]]]}', bytes(4)),
        (b'{"v": ["dict", [[["list", []], 1]]]}', b""),
        (b'{"v": ["dict", [[1]]]}', b""),
        (b'{"v": ["float", "1e999"]}', b""),
        (b'{"v": ' + b"9" * 5000 + b"}", b""),
        (b'{"v": 9223372036854775808}', b""),
        (b'{"v": ' + b'["list", [' * 30 + b"1" + b"]]" * 30 + b"}", b""),
        (b'{"v": ["list", [' + b"0," * 60_000 + b"0]]}", b""),
    ],
    ids=range(25),
)
def test_bytes_that_are_no_message_are_refused(body: bytes, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(body, payload)


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_no_bytes_raise_anything_else(body: bytes, payload: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        unpack(body, payload)


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=8), lambda x: st.lists(x, max_size=4)))
def test_no_json_raises_anything_else(value) -> None:
    with contextlib.suppress(ProtocolError):
        unpack(json.dumps({"v": value}).encode(), bytes(8))


def test_lengths_that_are_too_large_are_refused_before_anything_is_read() -> None:
    for lengths in ((2**32 - 1, 0), (2, FRAME_BYTES), (0, 0), (2**20 + 1, 0)):
        with pytest.raises(ProtocolError):
            frame_lengths(LENGTHS.pack(*lengths))


def test_half_a_character_does_not_reach_the_judge() -> None:
    assert crossed("\ud800").encode("utf8") == b"?"
