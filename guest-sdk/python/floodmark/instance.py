"""The one instance that a component holds: from the packed columns of the contract to an operator, and back.

One pass over the records. The loop writes two numbers into the record and calls the operator, and that is all that the SDK
does for a record that is not looked at. After an exception the operator may have seen half of a batch, so it is dropped,
and the next call gets a fresh one. Only a lack of memory is left to the caller: nothing can run after it.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from . import host, log, metrics, packed
from .columns import Column, column_of, items_of
from .config import Config
from .encoding import dumped, loaded
from .error import Error, readable, told
from .operator import Operator, check_states, states_of
from .packed import PackedBatch, PackedOptionalColumn, Result, Writes, length_of, unpacked
from .unread import unread_columns

T = TypeVar("T")


class Instance:
    """An operator between two calls. `cases` has the variants of the contract, as `packed` does."""

    def __init__(self, operator: type[Operator], cases: Any = packed) -> None:
        self._class = operator
        declared = states_of(operator)
        self._attributes = list(declared)
        self._states = list(declared.values())
        self._cases = cases
        #: For each input port what its calls come without.
        self.unread = unread_columns(operator)
        self._options: Sequence[tuple[str, str]] = ()
        self._operator: Operator | None = None

    def open(self, options: Sequence[tuple[str, str]]) -> None:
        """Makes the operator from its configuration."""
        self._options = options
        self._operator = self._opened()

    def process(self, port: int, batch: PackedBatch, current: Sequence[PackedOptionalColumn]) -> Result:
        """Handles one batch."""
        operator, self._operator = self._operator or self._opened(), None
        result = self._processed(operator, port, batch, current)
        self._operator = operator
        return result

    def completed(self, checkpoint: int) -> None:
        """Tells the operator, if there is one, that a checkpoint is durable."""
        self._hear(lambda operator: operator.checkpoint_completed(checkpoint))

    def aborted(self, checkpoint: int) -> None:
        """Tells the operator, if there is one, that a checkpoint was aborted."""
        self._hear(lambda operator: operator.checkpoint_aborted(checkpoint))

    def _hear(self, tell: Callable[[Operator], None]) -> None:
        """Calls a listener. The host expects no answer, so an exception is only logged."""
        if self._operator is not None:
            try:
                tell(self._operator)
            except Exception as error:
                self._operator = None
                host.current.log(log.ERROR, f"the operator failed when it was told of a checkpoint: {told(error)}")

    def migrate(self, state: int, from_version: int, values: Column) -> Column:
        """Rewrites values of an older version of a state."""
        return self._told(lambda: column_of(self._states[state].migrated(from_version, items_of(values))))

    def to_json(self, state: int, is_sub_key: bool, values: Column) -> Column:
        """Values or sub-keys as JSON texts."""

        def texts() -> Column:
            to_json = self._json_of(state, is_sub_key)[0]
            return column_of([to_json(item).encode() for item in items_of(values)])

        return self._told(texts)

    def from_json(self, state: int, is_sub_key: bool, texts: Column) -> Column:
        """The inverse."""

        def values() -> Column:
            from_json = self._json_of(state, is_sub_key)[1]
            return column_of([from_json(item.decode()) for item in items_of(texts)])

        return self._told(values)

    def _opened(self) -> Operator:
        config = Config(self._options)

        def opened() -> Operator:
            operator = self._class()
            operator.open(config)
            config._refuse_unknown()
            return operator

        return self._told(opened)

    def _processed(
        self, operator: Operator, port: int, batch: PackedBatch, current: Sequence[PackedOptionalColumn]
    ) -> Result:
        record, out = operator._record, operator._out
        states = {attribute: getattr(operator, attribute) for attribute in self._attributes}
        keys = length_of(batch.keys)
        record._turn_to(batch, self._class.inputs[port], self.unread[port])
        out._begin()
        try:
            for state, column in zip(states.values(), current, strict=True):
                state._load(column, keys)
            process = operator.process
            for record._index, record._slot in enumerate(unpacked(batch.slots)):
                process(record, out)
            record._slot = -1
            check_states(operator, states)
            writes = Writes(self._cases)
            for state in states.values():
                state._store(writes)
            result = Result(out._emissions(self._cases), writes, out._rejected())
            metrics._hand_over()
            return result
        except MemoryError:
            raise
        except BaseException as error:
            text = told(error)
            if record._slot >= 0:
                text = f"a record with the key `{readable(record.key)}`: {text}"
            raise Error(text) from None
        finally:
            metrics._drop()

    def _told(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except MemoryError:
            raise
        except BaseException as error:
            raise Error(told(error)) from None
        finally:
            metrics._drop()

    def _json_of(self, index: int, is_sub_key: bool) -> tuple[Callable[[bytes], str], Callable[[str], bytes]]:
        state = self._states[index]
        if not is_sub_key:
            return state._encoding.to_json, state._encoding.from_json
        by = state.sub_key()
        return lambda data: dumped(by.to_value(data)), lambda text: by.from_value(loaded(text))
