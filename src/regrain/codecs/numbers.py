"""Lists of integers in quantized and pruned payloads, packed or coded, whichever is shorter (docs/format.md, 6.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.codecs.pay import most_words
from regrain.kernels.fault import PayloadFault

MOST_PACKED = 65536
"""Numbers in a packed list at most, so that a few bytes can't ask for more memory than a block of a payload can."""

CODED = 255
"""The form of a list that is a payload; other forms are the bits of a packed number."""

_KINDS = (np.int8, np.uint8, np.int16, np.uint32)
_LIMITS = {np.dtype(kind): (np.iinfo(kind).min, np.iinfo(kind).max) for kind in _KINDS}
_LEAST_PAYLOAD = 72  # bytes: head, one block's entry, one constant word, rounded up
_FIRST = 2048  # bytes: more than the front of most payloads


class Cursor:
    """Takes bytes from the start of a payload of `size` bytes, which `fetch(start, count)` gives as they are needed."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch = fetch
        self._data = fetch(0, min(size, _FIRST))
        self.size = size
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes. Raises PayloadFault if the payload ends before."""
        end = self.at + count
        if end > self.size:
            raise PayloadFault(None, f"payload must have at least {end} bytes, not {self.size}")
        have = len(self._data)
        if end > have:
            self._data += self._fetch(have, min(self.size, max(end, 2 * have)) - have)
        self.at, start = end, self.at
        return self._data[start:end]

    def byte(self) -> int:
        """The next byte."""
        at = self.at
        if at >= len(self._data):
            return self.take(1)[0]
        self.at = at + 1
        return self._data[at]

    def varint(self) -> int:
        """A number of 63 bits at most: 7 a byte, the lowest first, in no more bytes than it needs."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 56:
                raise PayloadFault(None, "a number must have at most 63 bits")
        if byte == 0 and shift:
            raise PayloadFault(None, "a number must not have a leading byte of 0")
        return value

    def signed(self) -> int:
        """A signed number: 0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def taken(self) -> bytes:
        """Everything taken so far."""
        return self._data[: self.at]


def varint(value: int) -> bytes:
    """What Cursor.varint reads."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    """What Cursor.signed reads."""
    return varint(value << 1 if value >= 0 else ~value << 1 | 1)


def pack(numbers: NDArray[Any]) -> bytes | None:
    """A packed list with its form and base: None where there are too many numbers."""
    if not 0 < numbers.size <= MOST_PACKED:
        return None
    base = int(numbers.min())
    rest = (numbers.reshape(-1).astype(np.int64) - base).astype("<u4")
    width = int(rest.max()).bit_length()
    bits = np.unpackbits(rest.view(np.uint8).reshape(-1, 4), axis=1, count=width, bitorder="little")
    return bytes([width]) + signed(base) + np.packbits(bits, bitorder="little").tobytes()


def unpack(cursor: Cursor, width: int, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The numbers of a packed list whose form was read already. Raises PayloadFault."""
    if width > 8 * dtype.itemsize:
        raise PayloadFault(None, f"a packed number must have at most {8 * dtype.itemsize} bits, not {width}")
    if count > MOST_PACKED:
        raise PayloadFault(None, f"a packed list must have at most {MOST_PACKED} numbers, not {count}")
    base, limits = cursor.signed(), _LIMITS[dtype]
    if not limits[0] <= base <= limits[1]:
        raise PayloadFault(None, f"base must be {limits[0]} to {limits[1]}, not {base}")
    data = cursor.take(-(-count * width // 8))
    if data and data[-1] >> (8 - -count * width % 8):
        raise PayloadFault(None, "bits after the last number must be 0")
    rest = _from_bits(data, width, count)
    if base + (1 << width) - 1 > limits[1] and base + (most := int(rest.max())) > limits[1]:
        raise PayloadFault(None, f"a number must be at most {limits[1]}, not {base + most}")
    numbers = rest.astype(dtype)
    numbers += dtype.type(base)  # modulo the width of the type, in whose range they are
    return numbers


def _from_bits(data: bytes, width: int, count: int) -> NDArray[np.unsignedinteger[Any]]:
    """Numbers of `width` bits each, lowest bits first; at least one."""
    if width == 0:
        return np.zeros(count, np.uint8)
    packed = np.frombuffer(data, np.uint8)
    if width == 8:
        return packed
    bits = np.unpackbits(packed, count=count * width, bitorder="little").reshape(count, width)
    if width < 8:
        return np.packbits(bits, axis=1, bitorder="little")[:, 0]
    words = np.zeros((count, 4), np.uint8)
    words[:, : -(-width // 8)] = np.packbits(bits, axis=1, bitorder="little")
    return words.view("<u4")[:, 0]


def encode_list(numbers: NDArray[Any], row: int, seed: int, threads: int = 1) -> tuple[bytes, NDArray[np.uint8]]:
    """Form and numbers: everything of a packed list, or form and length of a coded one, and its payload.

    `numbers`: signed or unsigned, 1, 2 or 4 bytes each, at least one; `row` of them in a row of a matrix, 0 without
    rows. A packed list wins a tie.
    """
    packed = pack(numbers)
    none = np.empty(0, np.uint8)
    if packed is not None and len(packed) <= _LEAST_PAYLOAD:
        return packed, none
    words = np.ascontiguousarray(numbers).reshape(-1).view(f"<u{numbers.itemsize}")
    payload = kernels.encode(words, family=kernels.INTEGER, mantissa_bits=0, row_words=row, seed=seed, threads=threads)
    assert payload is not None  # no range of 32 bits is too wide
    front = bytes([CODED]) + varint(payload.size)
    if packed is not None and len(packed) <= len(front) + payload.size:
        return packed, none
    return front, payload


def decode_list(cursor: Cursor, count: int, dtype: np.dtype[Any], seed: int) -> NDArray[Any]:
    """What `encode_list` made of `count` numbers of that type, front and payload together. Raises PayloadFault."""
    form = cursor.byte()
    if form != CODED:
        return unpack(cursor, form, count, dtype)
    payload = cursor.take(coded_size(cursor, count))
    check_family(payload)
    numbers = np.empty(count, dtype)
    kernels.decode(payload, numbers.view(f"<u{dtype.itemsize}"), seed=seed)
    return numbers


def coded_size(cursor: Cursor, count: int, behind: int = 0) -> int:
    """The length of a coded list, which must be able to hold so many numbers and end within the payload.

    `behind`: bytes that stand between here and the list.
    """
    size = cursor.varint()
    if size > cursor.size - cursor.at - behind:
        raise PayloadFault(None, f"a coded list must end within the payload, not have {size} bytes")
    if count > most_words(size):
        raise PayloadFault(None, f"a coded list of {count} numbers must be longer than {size} bytes")
    return size


def check_family(payload: bytes) -> None:
    """Raise PayloadFault unless a payload is one of integers. The rest of its head is the decoder's business."""
    if payload[4:5] != bytes([kernels.INTEGER]):
        raise PayloadFault(None, "a coded list must be a payload of integers")
