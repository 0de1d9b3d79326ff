"""The class that a user extends: an operator that processes one record after the other."""

from typing import Any, ClassVar, Self

from .config import Config
from .error import Error
from .output import Output
from .record import Record
from .state import State
from .unread import Unread, check_unread


class Operator:
    """An operator. A project has one class of this kind.

    The host may drop it between any two batches and make another one, so what must last belongs in a state.
    """

    #: Name and version of the plugin; those of the project if there are none here.
    name: ClassVar[str] = ""
    version: ClassVar[str] = ""
    #: The names of its input and output ports. The first output is the one that `emit` means.
    inputs: ClassVar[tuple[str, ...]] = ("in",)
    outputs: ClassVar[tuple[str, ...]] = ("out",)
    #: The columns of records that it does not read, so that the host need not pass them: "value" (also as text) and
    #: "timestamp", for all ports, `("value",)`, or by port, `{"clicks": ("value", "timestamp")}`. By default they are
    #: determined from `process`.
    unread_columns: ClassVar[Unread | None] = None

    _record: Record
    _out: Output

    def open(self, config: Config) -> None:
        """Reads the configuration. An exception says what is wrong with it; the job then does not start."""

    def process(self, record: Record, out: Output) -> None:
        """Handles one record. States are those of its key. After an exception nothing of the batch is applied."""
        raise NotImplementedError(f"`{type(self).__name__}` has no method `process`")

    def checkpoint_completed(self, checkpoint: int) -> None:
        """Called when a checkpoint is durable: what was processed before it is never processed again.

        Best effort: a call may be missed, so this checkpoint also covers all with a smaller number. No state can be used here.
        """

    def checkpoint_aborted(self, checkpoint: int) -> None:
        """Called when a checkpoint was aborted; a later one includes what it would have included."""

    def __new__(cls) -> Self:
        operator = super().__new__(cls)
        operator._record = record = Record()
        operator._out = Output(cls.outputs, record)
        for index, (attribute, state) in enumerate(states_of(cls).items()):
            setattr(operator, attribute, state._bound(record, index))
        return operator

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for ports in (cls.inputs, cls.outputs):
            if isinstance(ports, str) or not ports or len(set(ports)) < len(ports):
                raise TypeError(f"`{ports!r}` are not ports; write at least one name, and each once, such as (\"out\",)")
        check_unread(cls)
        names = [state.name for state in states_of(cls).values()]
        if len(set(names)) < len(names):
            raise TypeError(f"two states of `{cls.__name__}` have the same name: {names}")


def states_of(operator: type[Operator]) -> dict[str, State[Any]]:
    """The states that a class declares, by attribute, those of its bases first."""
    states: dict[str, State[Any]] = {}
    for base in reversed(operator.__mro__):
        for attribute, value in vars(base).items():
            if isinstance(value, State):
                states[attribute] = value
            else:
                states.pop(attribute, None)
    return states


def check_states(operator: Operator, states: dict[str, State[Any]]) -> None:
    """Refuses an operator that put something else in the place of a state."""
    for attribute, state in states.items():
        if getattr(operator, attribute) is not state:
            raise Error(
                f"the attribute of state `{state.name}` was assigned; write `self.{attribute}.set(value)` or a similar call"
            )
