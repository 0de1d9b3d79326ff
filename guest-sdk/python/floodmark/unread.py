"""Which columns of its input an operator does not read, so that the host need not copy or even make them (`input-columns`).

An operator may say so. If it does not, its `process` is looked through: a column is unread if all that the method ever does with
its record is to take other attributes of it. A record that is handed on, kept or printed is read whole, and so is everything
where `process` may be another function by then. Should an unread column be read all the same, the record refuses.
"""

import dis
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any

#: The columns, by the attribute of a record that has them.
COLUMNS = ("value", "timestamp")
#: What an operator may say of its columns: the same for all ports, or for each port.
Unread = tuple[str, ...] | Mapping[str, tuple[str, ...]]

#: What each attribute of a record reads.
_READS = {"key": (), "input": (), "value": ("value",), "text": ("value",), "timestamp": ("timestamp",)}
#: With these a function may reach its record by another way.
_ROUNDABOUT = {"locals", "vars", "dir", "eval", "exec", "_getframe", "currentframe"}


def unread_columns(operator: type[Any]) -> list[frozenset[str]]:
    """For each input port of an operator the columns that it does not read."""
    said: Unread | None = operator.unread_columns
    if said is None:
        found = frozenset(COLUMNS) - _columns_read(operator)
        return [found] * len(operator.inputs)
    if isinstance(said, Mapping):
        return [frozenset(said.get(port, ())) for port in operator.inputs]
    return [frozenset(said)] * len(operator.inputs)


def check_unread(operator: type[Any]) -> None:
    """Refuses a declaration with unknown ports or columns."""
    said: Any = operator.unread_columns
    if said is None:
        return
    by_port = said if isinstance(said, Mapping) else dict.fromkeys(operator.inputs, said)
    for port, columns in by_port.items():
        if port not in operator.inputs:
            raise TypeError(f"`unread_columns` names the port `{port}`, and `{operator.__name__}` has {operator.inputs!r}")
        if not set(columns) <= set(COLUMNS):
            raise TypeError(f'`{columns!r}` are not unread columns; write a tuple of "value" and "timestamp"')


def _columns_read(operator: type[Any]) -> set[str]:
    process = operator.process
    code = getattr(process, "__code__", None)
    names = _names_of_methods(operator)
    if type(process) is not FunctionType or code.co_argcount != 3 or "process" in names or names & _ROUNDABOUT:
        return set(COLUMNS)
    record = code.co_varnames[1]
    if record in code.co_cellvars:
        return set(COLUMNS)
    # Emissions with a time of their own and without share a column only if the times of records are there.
    read = {"timestamp"} if "at" in names else set()
    steps = list(dis.get_instructions(code))
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        loaded = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        if record not in loaded or "FAST" not in step.opname:
            continue
        is_taken_from = loaded[-1] == record and loaded.count(record) == 1 and "LOAD" in step.opname
        attribute = after.argval if is_taken_from and after is not None and after.opname == "LOAD_ATTR" else None
        if attribute not in _READS:
            return set(COLUMNS)
        read.update(_READS[attribute])
    return read


def _names_of_methods(operator: type[Any]) -> set[Any]:
    """All names and texts in the code of the methods that a user wrote."""
    names: set[Any] = set()
    for base in operator.__mro__:
        if base.__module__.partition(".")[0] == __package__:
            continue
        for value in vars(base).values():
            if isinstance(value, FunctionType):
                names |= _names_of(value.__code__)
    return names


def _names_of(code: CodeType) -> set[Any]:
    names: set[Any] = {*code.co_names}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_of(constant)
        elif isinstance(constant, str):
            names.add(constant)
        elif isinstance(constant, tuple):
            # Such as the names of arguments in a call.
            names |= {one for one in constant if isinstance(one, str)}
    return names
