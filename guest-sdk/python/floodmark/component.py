"""What the host sees of an operator: the exports of a component.

`floodmark build` writes an entry module that calls `exports`. It runs once, when the component is built, and what memory then
holds is where each instance starts from. Only this module knows the bindings that componentize-py makes of the contract,
and no other module of the package can be imported without them.
"""

import gc
import os
import types
from typing import Any

from componentize_py_types import Err  # type: ignore[import-not-found]
from wit_world.exports import operator as generated  # type: ignore[import-not-found]
from wit_world.exports import operator_packed as generated_packed  # type: ignore[import-not-found]
from wit_world.exports.input_columns import UnreadColumns  # type: ignore[import-not-found]
from wit_world.exports.state_values import Part  # type: ignore[import-not-found]
from wit_world.imports import log as host_log  # type: ignore[import-not-found]
from wit_world.imports import metrics as host_metrics
from wit_world.imports import state as host_state

from . import host, log, plain
from .error import Error, told
from .instance import Instance
from .operator import Operator, states_of

#: Objects made between two collections of garbage.
GARBAGE_OBJECTS = 100_000

_LEVELS = list(host_log.Level)
_KINDS = list(generated.StateKind)


class _Component(host.Host):
    def log(self, level: int, message: str) -> None:
        host_log.line(_LEVELS[level], message.encode("utf-8", "replace").decode())

    def count(self, name: str, delta: int) -> None:
        host_metrics.add(name, delta)

    def gauge(self, name: str, value: float) -> None:
        host_metrics.set(name, value)

    def observe(self, name: str, values: list[float]) -> None:
        host_metrics.observe(name, values)

    map_get = staticmethod(host_state.map_get)
    map_scan = staticmethod(host_state.map_scan)
    list_read = staticmethod(host_state.list_read)
    list_len = staticmethod(host_state.list_len)


def exports(module: types.ModuleType, name: str, version: str) -> dict[str, type]:
    """The classes that componentize-py asks an entry module for. `name` and `version` are those of the project."""
    operator = _operator_of(module)
    instance = Instance(operator, generated_packed)
    host.current = _Component()
    log.divert_logging()
    log.divert_streams()
    log.refuse_the_outside()
    found = _exports(operator, instance, operator.name or name, operator.version or version)
    gc.collect()
    # Objects that exist by now are never freed, so the collector need not scan them again.
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 50, 100)
    return found


def _operator_of(module: types.ModuleType) -> type[Operator]:
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Operator) and value.__module__ == module.__name__
    ]
    # A base class of another one is not meant.
    found = [one for one in found if not any(other is not one and issubclass(other, one) for other in found)]
    if len(found) != 1:
        names = ", ".join(one.__name__ for one in found) or "none"
        raise TypeError(
            f"the module `{module.__name__}` has {len(found)} classes of the kind `floodmark.Operator` ({names}); write one"
        )
    return found[0]


def _exports(operator: type[Operator], instance: Instance, name: str, version: str) -> dict[str, type]:
    def failing(call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Error as error:
            raise Err(str(error).encode("utf-8", "replace").decode()) from None
        except MemoryError as error:
            # The memory of an instance never shrinks. A crash ends it, and the host knows which limit was to blame.
            try:
                host.current.log(log.ERROR, told(error))
            finally:
                os.abort()

    class Exported:
        def describe(self) -> Any:
            states = [
                generated.StateDeclaration(state.name, _KINDS[state.kind], state.version, state.ttl_ms)
                for state in states_of(operator).values()
            ]
            return generated.Description(name, version, states, [*operator.inputs], [*operator.outputs])

        def open(self, config: Any) -> None:
            failing(instance.open, config)

        def process(self, input: int, records: Any, states: Any) -> Any:
            batch, current = plain.packed_batch(records), plain.packed_states(states)
            return plain.plain_result(failing(instance.process, input, batch, current), records, generated)

    class Packed:
        def process(self, input: int, records: Any, states: Any) -> Any:
            return failing(instance.process, input, records, states)

    class InputColumns:
        def unread(self) -> Any:
            return [
                UnreadColumns(input, "value" in columns, "timestamp" in columns)
                for input, columns in enumerate(instance.unread)
                if columns
            ]

    class StateValues:
        def migrate(self, state: int, from_version: int, values: Any) -> Any:
            return failing(instance.migrate, state, from_version, values)

        def to_json(self, state: int, part: Any, values: Any) -> Any:
            return failing(instance.to_json, state, part == Part.SUB_KEY, values)

        def from_json(self, state: int, part: Any, texts: Any) -> Any:
            return failing(instance.from_json, state, part == Part.SUB_KEY, texts)

    class CheckpointListener:
        def completed(self, checkpoint: int) -> None:
            instance.completed(checkpoint)

        def aborted(self, checkpoint: int) -> None:
            instance.aborted(checkpoint)

    return {
        "Operator": Exported,
        "OperatorPacked": Packed,
        "InputColumns": InputColumns,
        "StateValues": StateValues,
        "CheckpointListener": CheckpointListener,
    }
