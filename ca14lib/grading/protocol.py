"""What may cross between the judge and a worker: plain values as JSON, arrays as raw bytes, everything with a limit.

A frame is two lengths (unsigned, 4 bytes each), a JSON header and the bytes of its arrays in the order in which the
header mentions them. Nothing is ever unpickled, and the judge believes nothing that the header says before it has
checked it. This module needs no other of the course, because it is copied to the worker.
"""

import json
import math
import struct
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTHS = struct.Struct(">II")
HEADER_BYTES = 2**20
FRAME_BYTES = 2**25
MAXIMAL_DEPTH = 20
MAXIMAL_NODES = 50_000
TEXT_CHARACTERS = 2**16
INTEGER_BITS = 63
DTYPES = tuple(np.dtype(name) for name in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"))
DTYPE_NAMES = {dtype.name: dtype for dtype in DTYPES}
ARRAY_KINDS = ("array", "scalar", "tensor")


class CrossingError(ValueError):
    """A value is not of a kind that may cross, or is too large."""


class ProtocolError(Exception):
    """Bytes that are no frame: whoever sent them is not to be listened to any more."""


def pack(message: dict[str, Any]) -> bytes:
    """A message as a frame.

    Raises:
        CrossingError: If it exceeds a limit, or holds something that is not one of the kinds.
    """
    encoder = _Encoder()
    body = {key: encoder.encode(value, 0) for key, value in message.items()}
    header = json.dumps(body, separators=(",", ":")).encode("ascii")
    payload = b"".join(encoder.buffers)
    if len(header) > HEADER_BYTES or len(header) + len(payload) > FRAME_BYTES:
        raise CrossingError(f"the values are too large to cross: {len(header) + len(payload):,} bytes")
    return LENGTHS.pack(len(header), len(payload)) + header + payload


def frame_lengths(prefix: bytes) -> tuple[int, int]:
    """Lengths of header and arrays from the first eight bytes.

    Raises:
        ProtocolError: If they exceed the limits.
    """
    header, payload = LENGTHS.unpack(prefix)
    if not 2 <= header <= HEADER_BYTES or header + payload > FRAME_BYTES:
        raise ProtocolError(f"a frame of {header:,} + {payload:,} bytes exceeds the limit")
    return header, payload


def unpack(header: bytes, payload: bytes) -> dict[str, Any]:
    """The message of a frame; arrays are fresh copies.

    Raises:
        ProtocolError: If the bytes are not a message as :func:`pack` makes it.
    """
    try:
        body = json.loads(header.decode("ascii"))
    except (ValueError, RecursionError):
        raise ProtocolError("a header is not JSON") from None
    if type(body) is not dict:
        raise ProtocolError("a header is not an object")
    decoder = _Decoder(payload)
    try:
        message = {key: decoder.decode(value, 0) for key, value in body.items()}
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as problem:
        raise ProtocolError(f"a frame cannot be read ({type(problem).__name__})") from None
    if decoder.position != len(payload):
        raise ProtocolError("a frame has bytes that no array claims")
    return message


class _Encoder:
    """Values to what JSON can hold, arrays to buffers. Runs on both sides, so it must also do with odd objects."""

    def __init__(self) -> None:
        self.buffers: list[bytes] = []
        self._nodes = 0
        self._bytes = 0

    def encode(self, value: Any, depth: int) -> Any:
        self._nodes += 1
        if depth > MAXIMAL_DEPTH or self._nodes > MAXIMAL_NODES:
            raise CrossingError(
                f"values may be nested {MAXIMAL_DEPTH} deep and have {MAXIMAL_NODES:,} parts: does one contain itself?"
            )
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, np.ndarray):
            return self._array("array", np.array(value, subok=False))
        if isinstance(value, np.generic):  # before float: np.float64 is one
            return self._array("scalar", np.asarray(value))
        if isinstance(value, int):
            if abs(int(value)).bit_length() > INTEGER_BITS:
                raise CrossingError(f"whole numbers may have {INTEGER_BITS} bits, got {int(value).bit_length()}")
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else ["float", repr(float(value))]
        if isinstance(value, str):
            if len(value) > TEXT_CHARACTERS:
                raise CrossingError(f"strings may have {TEXT_CHARACTERS:,} characters, got {len(value):,}")
            return str(value)
        if isinstance(value, list | tuple):
            return ["tuple" if isinstance(value, tuple) else "list", [self.encode(item, depth + 1) for item in value]]
        if isinstance(value, dict):
            pairs = [[self.encode(key, depth + 1), self.encode(item, depth + 1)] for key, item in value.items()]
            return ["dict", pairs]
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            try:
                return self._array("tensor", np.array(value.detach().cpu().numpy(), subok=False))
            except (TypeError, RuntimeError):  # sparse, quantised, bfloat16
                raise CrossingError(f"a tensor of {value.dtype} cannot cross") from None
        raise CrossingError(
            f"{type(value).__name__} cannot cross; allowed are None, truth values, numbers, strings, arrays, tensors, "
            "and lists, tuples and dicts of those"
        )

    def _array(self, kind: str, array: NDArray) -> Any:
        if array.dtype.name not in DTYPE_NAMES:
            raise CrossingError(f"arrays of {array.dtype.name} cannot cross")
        self._bytes += array.nbytes
        if self._bytes > FRAME_BYTES:
            raise CrossingError(f"arrays may have {FRAME_BYTES:,} bytes altogether")
        self.buffers.append(array.astype(DTYPE_NAMES[array.dtype.name], order="C").tobytes())
        return [kind, array.dtype.name, list(array.shape)]


class _Decoder:
    """The way back. Each array takes the next bytes of the payload, so that none can be claimed twice."""

    def __init__(self, payload: bytes) -> None:
        self.position = 0
        self._payload = payload
        self._nodes = 0

    def decode(self, value: Any, depth: int) -> Any:
        self._nodes += 1
        if depth > MAXIMAL_DEPTH or self._nodes > MAXIMAL_NODES:
            raise ProtocolError("a header has too many parts")
        if value is None or type(value) is bool:
            return value
        if type(value) is int:
            if abs(value).bit_length() > INTEGER_BITS:
                raise ProtocolError("a header has a number that is too large")
            return value
        if type(value) is float:
            return value
        if type(value) is str:
            if len(value) > TEXT_CHARACTERS:
                raise ProtocolError("a header has a string that is too long")
            return value.encode("utf8", "replace").decode("utf8")  # a lone half of a character could not be stored
        if type(value) is not list or not value or type(value[0]) is not str:
            raise ProtocolError("a header has an unknown kind of value")
        kind, rest = value[0], value[1:]
        if kind in ARRAY_KINDS and len(rest) == 2:
            return self._array(kind, *rest)
        if len(rest) != 1:
            raise ProtocolError("a header has an unknown kind of value")
        if kind == "float" and rest[0] in ("inf", "-inf", "nan"):
            return float(rest[0])
        if kind in ("list", "tuple") and type(rest[0]) is list:
            items = [self.decode(item, depth + 1) for item in rest[0]]
            return items if kind == "list" else tuple(items)
        if kind == "dict" and type(rest[0]) is list:
            return dict(self._pair(pair, depth) for pair in rest[0])
        raise ProtocolError("a header has an unknown kind of value")

    def _pair(self, pair: Any, depth: int) -> tuple[Any, Any]:
        if type(pair) is not list or len(pair) != 2:
            raise ProtocolError("a dict has something else than pairs")
        key = self.decode(pair[0], depth + 1)
        try:
            hash(key)
        except TypeError:
            raise ProtocolError("a dict has a key that cannot be one") from None
        return key, self.decode(pair[1], depth + 1)

    def _array(self, kind: str, name: Any, shape: Any) -> Any:
        if type(name) is not str or name not in DTYPE_NAMES:
            raise ProtocolError("an array has a dtype that may not cross")
        if type(shape) is not list or len(shape) > 16 or any(type(n) is not int or not 0 <= n < 2**31 for n in shape):
            raise ProtocolError("an array has an impossible shape")
        dtype = DTYPE_NAMES[name]
        end = self.position + math.prod(shape) * dtype.itemsize
        if end > len(self._payload) or (kind == "scalar" and shape):
            raise ProtocolError("an array claims bytes that are not there")
        try:
            array = np.frombuffer(self._payload[self.position : end], dtype).reshape(shape).copy()
        except ValueError:  # no bytes, yet an impossible shape such as (0, 2³⁰, 2³⁰, 2³⁰)
            raise ProtocolError("an array has an impossible shape") from None
        self.position = end
        if name == "bool" and (array.view(np.uint8) > 1).any():
            raise ProtocolError("an array of truth values has others than 0 and 1")
        if kind == "scalar":
            return array[()]
        if kind == "tensor":
            import torch  # only where one is used: it takes more than a second

            return torch.from_numpy(array)
        return array
