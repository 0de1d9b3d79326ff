"""The records of `operator-packed` (`wit/`), field by field, and columns whose numbers are bytes.

The bindings of a component take a list of bytes over at once, but any other list item by item. So numbers cross as bytes,
little-endian, and become numbers only where an operator needs them. Little-endian is what WebAssembly is, and the machines that
run tests, so numbers are not turned round here.

The bindings read the fields of records by name and know variants by their class. The variants here stand for the generated
ones in tests; a component hands in its own (`cases`).
"""

import struct
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

from .columns import Rejection

#: Ends of columns whose items have one width are kept for so many pairs of width and length.
EVEN_ENDS_KEPT = 16


class PackedColumn:
    """Byte strings laid end to end: item `i` is `bytes[ends[i - 1]:ends[i]]`, and `ends` are u32."""

    __slots__ = ("bytes", "ends")

    def __init__(self, ends: bytes, bytes: bytes) -> None:
        self.ends = ends
        self.bytes = bytes


class PackedOptionalColumn:
    """A column with gaps: bit `i % 8` of `present[i // 8]` says whether item `i` is there."""

    __slots__ = ("bytes", "ends", "present")

    def __init__(self, present: bytes, ends: bytes, bytes: bytes) -> None:
        self.present = present
        self.ends = ends
        self.bytes = bytes


class PackedBatch:
    """Records of one input port: record `i` has the key `keys[slots[i]]`. Slots are u32, timestamps s64."""

    __slots__ = ("keys", "slots", "timestamps", "values")

    def __init__(self, keys: PackedColumn, slots: bytes, values: PackedColumn, timestamps: bytes) -> None:
        self.keys = keys
        self.slots = slots
        self.values = values
        self.timestamps = timestamps


class _Case:
    """A case of a variant without a value."""

    __slots__ = ()


class _CaseOf:
    """A case of a variant with a value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Selection_All(_Case):
    """Every record, or every slot, once and in order."""


class Selection_Listed(_CaseOf):
    """Those with these places (u32)."""


class EmittedKeys_Same(_Case):
    """Each emission has the key of its record."""


class EmittedKeys_Fresh(_CaseOf):
    """One key for each emission."""


class EmittedTimes_Same(_Case):
    """Each emission has the time of its record."""


class EmittedTimes_Fresh(_CaseOf):
    """One time for each emission (s64)."""


class EmittedValues_Empty(_Case):
    """All values are empty."""


class EmittedValues_Bytes(_CaseOf):
    """One value for each emission."""


class Emission:
    """Records that leave by one port, in order: one for each record that `records` selects."""

    __slots__ = ("keys", "output", "records", "timestamps", "values")

    def __init__(self, output: int, records: Any, keys: Any, values: Any, timestamps: Any) -> None:
        self.output = output
        self.records = records
        self.keys = keys
        self.values = values
        self.timestamps = timestamps


class ValueWrites:
    """New values of a state, one for each slot that `slots` selects; an absent one clears it."""

    __slots__ = ("slots", "state", "values")

    def __init__(self, state: int, slots: Any, values: PackedOptionalColumn) -> None:
        self.state = state
        self.slots = slots
        self.values = values


class ListWrites:
    """First the lists of `cleared` lose all items, then each value is appended."""

    __slots__ = ("cleared", "slots", "state", "values")

    def __init__(self, state: int, cleared: bytes, slots: bytes, values: PackedColumn) -> None:
        self.state = state
        self.cleared = cleared
        self.slots = slots
        self.values = values


class MapWrites:
    """First the maps of `cleared` lose all entries, then each value becomes the one of its sub-key."""

    __slots__ = ("cleared", "slots", "state", "sub_keys", "values")

    def __init__(
        self, state: int, cleared: bytes, slots: bytes, sub_keys: PackedColumn, values: PackedOptionalColumn
    ) -> None:
        self.state = state
        self.cleared = cleared
        self.slots = slots
        self.sub_keys = sub_keys
        self.values = values


class Writes:
    """What a call did to the states. `cases` has the variants that are made."""

    __slots__ = ("cases", "lists", "maps", "values")

    def __init__(self, cases: Any) -> None:
        self.cases = cases
        self.values: list[ValueWrites] = []
        self.lists: list[ListWrites] = []
        self.maps: list[MapWrites] = []


class Result:
    """What a call gives back."""

    __slots__ = ("emissions", "lists", "maps", "rejections", "values")

    def __init__(self, emissions: list[Emission], writes: Writes, rejections: list[Rejection]) -> None:
        self.emissions = emissions
        self.values = writes.values
        self.lists = writes.lists
        self.maps = writes.maps
        self.rejections = rejections


def packed(numbers: Iterable[int]) -> bytes:
    """Numbers as u32."""
    return array("I", numbers).tobytes()


def unpacked(data: bytes) -> list[int]:
    """The numbers of u32."""
    return memoryview(data).cast("I").tolist()


def packed_times(times: Iterable[int]) -> bytes:
    """Times as s64."""
    return array("q", times).tobytes()


def unpacked_times(data: bytes) -> list[int]:
    """The times of s64."""
    return memoryview(data).cast("q").tolist()


def length_of(column: PackedColumn | PackedOptionalColumn) -> int:
    """How many items a column has."""
    return len(column.ends) >> 2


@lru_cache(maxsize=EVEN_ENDS_KEPT)
def even_ends(width: int, length: int) -> bytes:
    """The ends of items that all have one width."""
    return packed(range(width, width * length + 1, width) if width else [0] * length)


def width_of(column: PackedColumn | PackedOptionalColumn) -> int | None:
    """The width of all items of a column, if they have one."""
    length, ends = length_of(column), column.ends
    width = int.from_bytes(ends[:4], "little")
    is_even = width * length == len(column.bytes) and ends == even_ends(width, length)
    return width if is_even else None


def ends_of(items: Sequence[str | bytes], total: int) -> bytes:
    """The ends of items that have so many bytes together. Texts are ASCII."""
    if not items:
        return b""
    width, rest = divmod(total, len(items))
    # A search for another width is cheaper than numbers, and often there is none.
    if not rest and set(map(len, items)) == {width}:
        return even_ends(width, len(items))
    return packed(accumulate(map(len, items)))


def packed_column_of(items: list[bytes]) -> PackedColumn:
    """A column of these items."""
    data = b"".join(items)
    return PackedColumn(ends_of(items, len(data)), data)


def packed_optional_column_of(items: list[bytes | None]) -> PackedOptionalColumn:
    """A column of these items, in which `None` is a gap."""
    if None not in items:
        return without_gaps(packed_column_of(items))  # type: ignore[arg-type]
    bits = 0
    for index, item in enumerate(items):
        if item is not None:
            bits |= 1 << index
    filled = packed_column_of([item or b"" for item in items])
    return PackedOptionalColumn(bits.to_bytes((len(items) + 7) // 8, "little"), filled.ends, filled.bytes)


def without_gaps(column: PackedColumn) -> PackedOptionalColumn:
    """The same column as one that could have gaps."""
    length = length_of(column)
    present = ((1 << length) - 1).to_bytes((length + 7) // 8, "little")
    return PackedOptionalColumn(present, column.ends, column.bytes)


def has_gaps(column: PackedOptionalColumn) -> bool:
    """Whether an item is absent."""
    return int.from_bytes(column.present, "little").bit_count() < length_of(column)


def packed_items_of(column: PackedColumn | PackedOptionalColumn) -> list[bytes]:
    """The items of a column; a gap is one of no bytes."""
    data, width = column.bytes, width_of(column)
    if width:
        # Items of one width are taken apart by one call.
        return [item for (item,) in struct.iter_unpack(f"{width}s", data)]
    return [data[start:end] for start, end in pairwise([0, *unpacked(column.ends)])]


def packed_optional_items_of(column: PackedOptionalColumn) -> list[bytes | None]:
    """The items of a column, in which `None` is a gap."""
    items, present = packed_items_of(column), column.present
    if not has_gaps(column):
        return [*items]
    return [item if present[index >> 3] >> (index & 7) & 1 else None for index, item in enumerate(items)]
