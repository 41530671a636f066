"""What can go wrong, each as one line that says what failed, where, what was expected and what to do next."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Collection

FEW = 20
"""So many names fit one line of an error; of more, those that come close are named."""

LONGEST, LONGEST_LIST = 600, 2000
"""Letters of a place and of what was found there, and of the names it could have been: a whole table in the place of a
number would hide what to do next."""


def printable(text: str) -> str:
    """A text with what no terminal should be sent, or what turns letters round, written as an escape."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _short(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]} ..."


def one_of(name: str, known: Collection[str]) -> str:
    """What a name could have been: all that is known where it is little, else what comes close."""
    close = difflib.get_close_matches(name, known, 4, 0.5)
    return f"for example {', '.join(close)}" if close and len(known) > FEW else f"one of {', '.join(sorted(known))}"


def wanted(told: str) -> str:
    """What pydantic says of a value that does not fit, as what was expected: `a valid integer`."""
    return told.removeprefix("Value error, ").removeprefix("Input should be ").partition(", unable to")[0]


class BenchError(Exception):
    """A failure that the user can act on; `exit_code` is what the command line returns for it."""

    exit_code = 2

    def __init__(self, what: str, *, where: object = "", expected: object = "", found: object = "", fix: str = ""):
        parts = [what]
        if where != "":
            parts.append(f"in {_short(str(where))}")
        if found != "":
            parts.append(f"found {_short(str(found))}")
        if expected != "":
            parts.append(f"expected {_short(str(expected), LONGEST_LIST)}")
        if fix:
            parts.append(f"next: {fix}")
        super().__init__(printable(" ".join("; ".join(str(part) for part in parts).split())))


class SpecError(BenchError):
    """An unknown paper, variant, task, scale, field or profile key."""


class ClaimError(BenchError):
    """A ledger entry that does not mean anything."""


class RecordError(BenchError):
    """A record that cannot be read, or a results folder that cannot be written."""


class DataError(BenchError):
    """Data that is missing, malformed or not what its task says."""


class ModelError(BenchError):
    """A checkpoint that is missing, unsafe, corrupt, of the wrong size, or not good enough to be a teacher."""


class DeviceError(BenchError):
    """A device, precision or backend that was asked for and is not there."""


class TrainError(BenchError):
    """A run that started well and then failed, for example on a non-finite loss."""

    exit_code = 1


class Diverged(TrainError):
    """A training whose loss is not finite."""


class MachineError(BenchError):
    """What the machine did not allow: a full disk, memory that is gone, a process that was lost.

    No failure of a run: no record is written of it, and the same command goes on once it is mended.
    """

    exit_code = 1


class ProcessLost(MachineError):
    """One of several processes that train together is gone, so that the others cannot go on."""


class UnwritableError(RecordError, MachineError):
    """A record that could not be written though its folder could be before."""


class Stopped(BaseException):
    """A signal asked to stop. No Exception, so that nothing that handles failures takes it for one."""

    def __init__(self, signum: int):
        self.signum = int(signum)
        super().__init__(f"stopped by {signal.Signals(signum).name}; the same command goes on where it was")

    @property
    def exit_code(self) -> int:
        """What a shell says of a program that ended by this signal: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signum
