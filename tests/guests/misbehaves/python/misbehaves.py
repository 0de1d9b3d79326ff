"""Does what the value of each record says: crashes, never ends, takes all memory, fails or logs. Anything else it emits."""

import logging
import os

from floodmark import Error, Operator, Output, Record


class Misbehaves(Operator):
    """Does as it is told."""

    def process(self, record: Record, out: Output) -> None:
        match record.value:
            case b"trap":
                os.abort()
            case b"loop":
                while True:
                    pass
            case b"memory":
                kept = []
                while True:
                    kept.append(bytearray(1 << 20))
            case b"error":
                raise Error("as asked")
            case b"log":
                logging.info("hello")
            case value:
                out.emit(value)
