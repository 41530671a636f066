"""Tells trouble of the machine from failures of a program, and says it in one line."""

from __future__ import annotations

import errno
import os
import re

from bench.core.errors import BenchError, MachineError, ProcessLost

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No more can be written: the disk, the user's share of it, or the largest file allowed."""
_FIX = {
    **dict.fromkeys(FULL, "free space there and give the same command again: it goes on where it was"),
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES, errno.EPERM), "make it accessible to this user, or give another folder"
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
    errno.ENOMEM: "end other programs, or take a smaller batch",
}
_AGAIN = "mend it and give the same command again: it goes on where it was"
_MEMORY = ("can't allocate memory", "Cannot allocate memory", "out of memory", "std::bad_alloc")
_PEER = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed", "recv, got 0 bytes")
_PEER_CLASSES = {"DistError", "DistBackendError", "DistNetworkError", "DistStoreError"}
_NUMBER = re.compile(r"\bcode: (\d+), kind: \w+|\(os error (\d+)\)")
"""How libraries written in Rust tell the system's error number."""


def explained(error: BaseException, where: object = "") -> MachineError | None:
    """What the machine did not allow, or None where the error is of another kind. `where` is the place if none is told.

    A MachineError is itself. It is judged by names and texts, so that no library has to be imported for it.
    """
    if isinstance(error, MachineError):
        return error
    if isinstance(error, BenchError):  # said by who wrote: the cause tells whether the machine is to blame
        cause = error.__cause__
        return explained(cause, where) if cause is not None and system_number(cause) in FULL else None
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    if is_out_of_memory(error):
        return MachineError("the memory is full", where=where, found=text.partition("\n")[0][:200] or "MemoryError",
                            fix=_FIX[errno.ENOMEM])  # fmt: skip
    if isinstance(error, ConnectionError) or names & _PEER_CLASSES or _says(error, _PEER):
        return ProcessLost("another process of this run was lost", where=where, found=text.partition("\n")[0][:200],
                           fix="see what ended it, and give the same command again")  # fmt: skip
    number = system_number(error)
    if number is None:
        return None
    place = getattr(error, "filename", None) or where
    return MachineError("the system refused", where=place, found=os.strerror(number), fix=_FIX.get(number, _AGAIN))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused; on a CPU torch has no class of error for it."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, MemoryError) or "OutOfMemoryError" in names or _says(error, _MEMORY)


def system_number(error: BaseException) -> int | None:
    """The system's error number, also where a library has put it into words only; None for another kind of error."""
    if isinstance(error, OSError):
        return error.errno
    if "SafetensorError" not in {kind.__name__ for kind in type(error).__mro__}:
        return None
    found = _NUMBER.search(str(error))
    return int(found[1] or found[2]) if found else None


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    """Whether torch says so: it has no class of error for it."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
