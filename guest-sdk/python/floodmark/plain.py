"""`operator.process`, the call that every host knows, on top of the packed one.

A host of 0.1.0 calls nothing else, and tools compare the two. So this need not be fast: numbers become bytes, the packed call is
made, and what it selects is written out.
"""

from collections.abc import Sequence
from typing import Any

from . import packed
from .columns import Batch, Column, Emission, ListWrites, MapWrites, OptionalColumn, Result, ValueWrites


class EmittedKeys_Input:
    """Slots are those of the call. Stands for the generated class, as `EmittedKeys_Fresh` does."""

    __slots__ = ()


class EmittedKeys_Fresh:
    """Slots are indexes of this column."""

    __slots__ = ("value",)

    def __init__(self, value: Column) -> None:
        self.value = value


def packed_batch(batch: Batch) -> packed.PackedBatch:
    """A batch with its numbers as bytes."""
    return packed.PackedBatch(
        _packed_column(batch.keys),
        packed.packed(batch.slots),
        _packed_column(batch.values),
        packed.packed_times(batch.timestamps),
    )


def packed_states(states: Sequence[OptionalColumn]) -> list[packed.PackedOptionalColumn]:
    """Current values with their numbers as bytes."""
    return [packed.PackedOptionalColumn(state.present, packed.packed(state.ends), state.bytes) for state in states]


def plain_result(result: packed.Result, batch: Batch, cases: Any) -> Result:
    """What a packed call gave back for a batch, written out. `cases` has the variants that are made."""
    return Result(
        [_emission(emission, batch, cases) for emission in result.emissions],
        [
            ValueWrites(write.state, _selected(write.slots, len(batch.keys.ends)), _optional_column(write.values))
            for write in result.values
        ],
        [
            ListWrites(write.state, packed.unpacked(write.cleared), packed.unpacked(write.slots), _column(write.values))
            for write in result.lists
        ],
        [
            MapWrites(
                write.state,
                packed.unpacked(write.cleared),
                packed.unpacked(write.slots),
                _column(write.sub_keys),
                _optional_column(write.values),
            )
            for write in result.maps
        ],
        result.rejections,
    )


def _emission(emission: packed.Emission, batch: Batch, cases: Any) -> Emission:
    records = _selected(emission.records, len(batch.slots))
    # Cases without a value are `same` and `empty`.
    keys, times, values = (getattr(one, "value", None) for one in (emission.keys, emission.timestamps, emission.values))
    return Emission(
        emission.output,
        cases.EmittedKeys_Input() if keys is None else cases.EmittedKeys_Fresh(_column(keys)),
        [batch.slots[record] for record in records] if keys is None else list(range(len(records))),
        Column([0] * len(records), b"") if values is None else _column(values),
        [batch.timestamps[record] for record in records] if times is None else packed.unpacked_times(times),
    )


def _selected(selection: Any, length: int) -> list[int]:
    """The places that a selection has, of so many."""
    listed = getattr(selection, "value", None)
    return list(range(length)) if listed is None else packed.unpacked(listed)


def _packed_column(column: Column) -> packed.PackedColumn:
    return packed.PackedColumn(packed.packed(column.ends), column.bytes)


def _column(column: packed.PackedColumn) -> Column:
    return Column(packed.unpacked(column.ends), column.bytes)


def _optional_column(column: packed.PackedOptionalColumn) -> OptionalColumn:
    return OptionalColumn(column.present, packed.unpacked(column.ends), column.bytes)
