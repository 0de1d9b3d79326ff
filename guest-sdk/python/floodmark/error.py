"""What went wrong, in words for people.

An exception of an operator is told by its type, its message and the lines of the user's code that led to it, since the
host shows nothing else of it. It does not print whole tracebacks: an error is one line of a log.
"""

import os
from types import TracebackType

READABLE_BYTES_MAX = 80
FRAMES_MAX = 8
_OWN_FOLDER = os.path.dirname(__file__)


class Error(Exception):
    """An error that is told by its message alone."""


def readable(data: bytes) -> str:
    """Bytes as people read them: text as it is, anything else escaped, long ones cut."""
    cut = data[:READABLE_BYTES_MAX]
    shown = "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in cut.decode("utf-8", "backslashreplace")
    )
    return shown if len(cut) == len(data) else f"{shown}… ({len(data)} bytes)"


def told(error: BaseException) -> str:
    """Type and message of an exception, those of its causes, and where in the user's code it was raised."""
    text = _message(error)
    place = _place(error.__traceback__)
    if place:
        text = f"{text} ({place})"
    cause = error.__cause__
    return text if cause is None else f"{text}: {_message(cause)}"


def _message(error: BaseException) -> str:
    try:
        message = str(error)
    except Exception:
        message = "its message cannot be told"
    if isinstance(error, Error):
        return message
    name = type(error).__name__
    return f"{name}: {message}" if message else name


def _place(traceback: TracebackType | None) -> str:
    """The innermost frames outside of this package, the latest last."""
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if os.path.dirname(code.co_filename) != _OWN_FOLDER and not _is_library(code.co_filename):
            places.append(f"{os.path.basename(code.co_filename)}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    if len(places) > FRAMES_MAX:
        places[FRAMES_MAX // 2 : -FRAMES_MAX // 2] = ["…"]
    return ", ".join(places)


def _is_library(path: str) -> bool:
    return path.startswith("<") or any(path.startswith(folder) for folder in _LIBRARY_FOLDERS)


_LIBRARY_FOLDERS = {os.path.dirname(os.__file__)} - {"", os.path.dirname(_OWN_FOLDER)}

