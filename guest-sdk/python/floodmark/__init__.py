"""Write operators for Floodmark: what an operator does with one record, and what it keeps for the key.

    from floodmark import Operator, Output, Record, Value

    class WordCount(Operator):
        count = Value(int)

        def process(self, record: Record, out: Output) -> None:
            count = self.count.get(0) + 1
            self.count.set(count)
            out.emit(str(count))

A state always means the state of the current record's key. A batch is a transaction: after an exception nothing of it is
applied. The host may drop the operator between any two batches, so attributes that are not states are caches. There is no
clock and no randomness.

`floodmark.testing` runs an operator without the host; `floodmark.component` is what the host sees of it.
"""

from . import metrics
from .config import Config
from .encoding import Encoding, boolean, f64, i64, json, raw, text, u64, unit
from .error import Error
from .list import List
from .map import Map
from .operator import Operator
from .output import Output
from .record import Record
from .state import State
from .sub_key import SubKey, i8, i16, i32, u8, u16, u32
from .value import Value

__all__ = [
    "Config",
    "Encoding",
    "Error",
    "List",
    "Map",
    "Operator",
    "Output",
    "Record",
    "State",
    "SubKey",
    "Value",
    "boolean",
    "f64",
    "i8",
    "i16",
    "i32",
    "i64",
    "json",
    "metrics",
    "raw",
    "text",
    "u8",
    "u16",
    "u32",
    "u64",
    "unit",
]
