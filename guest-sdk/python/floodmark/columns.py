"""The records of `operator` and `types` in the contract (`wit/`), field by field, and byte strings laid end to end.

The bindings of a component read the fields by name, so these classes stand for the generated ones, and tests need none. Batches
come and go by `packed`; these are for reads of lists and maps, for tools, and for `plain`.
"""

from itertools import accumulate, pairwise

NO_TIMESTAMP = -(1 << 63)


class Column:
    """Byte strings laid end to end: item `i` is `bytes[ends[i - 1]:ends[i]]`."""

    __slots__ = ("bytes", "ends")

    def __init__(self, ends: list[int], bytes: bytes) -> None:
        self.ends = ends
        self.bytes = bytes


class OptionalColumn:
    """A column with gaps: bit `i % 8` of `present[i // 8]` says whether item `i` is there."""

    __slots__ = ("bytes", "ends", "present")

    def __init__(self, present: bytes, ends: list[int], bytes: bytes) -> None:
        self.present = present
        self.ends = ends
        self.bytes = bytes


class Batch:
    """Records of one input port: record `i` has the key `keys[slots[i]]`."""

    __slots__ = ("keys", "slots", "timestamps", "values")

    def __init__(self, keys: Column, slots: list[int], values: Column, timestamps: list[int]) -> None:
        self.keys = keys
        self.slots = slots
        self.values = values
        self.timestamps = timestamps


class Emission:
    """Records that leave by one port. No `fresh` keys: slots are those of the call."""

    __slots__ = ("keys", "output", "slots", "timestamps", "values")

    def __init__(
        self, output: int, keys: object, slots: list[int], values: Column, timestamps: list[int]
    ) -> None:
        self.output = output
        self.keys = keys
        self.slots = slots
        self.values = values
        self.timestamps = timestamps


class ValueWrites:
    """New values of a state; an absent one clears it."""

    __slots__ = ("slots", "state", "values")

    def __init__(self, state: int, slots: list[int], values: OptionalColumn) -> None:
        self.state = state
        self.slots = slots
        self.values = values


class ListWrites:
    """First the lists of `cleared` lose all items, then each value is appended."""

    __slots__ = ("cleared", "slots", "state", "values")

    def __init__(self, state: int, cleared: list[int], slots: list[int], values: Column) -> None:
        self.state = state
        self.cleared = cleared
        self.slots = slots
        self.values = values


class MapWrites:
    """First the maps of `cleared` lose all entries, then each value becomes the one of its sub-key."""

    __slots__ = ("cleared", "slots", "state", "sub_keys", "values")

    def __init__(
        self, state: int, cleared: list[int], slots: list[int], sub_keys: Column, values: OptionalColumn
    ) -> None:
        self.state = state
        self.cleared = cleared
        self.slots = slots
        self.sub_keys = sub_keys
        self.values = values


class Rejection:
    """A record of the call that the operator does not want."""

    __slots__ = ("reason", "record")

    def __init__(self, record: int, reason: str) -> None:
        self.record = record
        self.reason = reason


class Result:
    """What a call gives back."""

    __slots__ = ("emissions", "lists", "maps", "rejections", "values")

    def __init__(
        self,
        emissions: list[Emission],
        values: list[ValueWrites],
        lists: list[ListWrites],
        maps: list[MapWrites],
        rejections: list[Rejection],
    ) -> None:
        self.emissions = emissions
        self.values = values
        self.lists = lists
        self.maps = maps
        self.rejections = rejections


def column_of(items: list[bytes]) -> Column:
    """A column of these items."""
    return Column(list(accumulate(map(len, items))), b"".join(items))


def optional_column_of(items: list[bytes | None]) -> OptionalColumn:
    """A column of these items, in which `None` is a gap."""
    there = [item for item in items if item is not None]
    if len(there) == len(items):
        present = _all_present(len(items))
        return OptionalColumn(present, list(accumulate(map(len, there))), b"".join(there))
    bits = 0
    for index, item in enumerate(items):
        if item is not None:
            bits |= 1 << index
    ends = list(accumulate([0 if item is None else len(item) for item in items]))
    return OptionalColumn(bits.to_bytes((len(items) + 7) // 8, "little"), ends, b"".join(there))


def _all_present(length: int) -> bytes:
    return ((1 << length) - 1).to_bytes((length + 7) // 8, "little")


def items_of(column: Column) -> list[bytes]:
    """The items of a column."""
    data = column.bytes
    return [data[start:end] for start, end in pairwise([0, *column.ends])]


def optional_items_of(column: OptionalColumn) -> list[bytes | None]:
    """The items of a column, in which `None` is a gap."""
    data, present = column.bytes, column.present
    return [
        data[start:end] if present[index >> 3] >> (index & 7) & 1 else None
        for index, (start, end) in enumerate(pairwise([0, *column.ends]))
    ]
