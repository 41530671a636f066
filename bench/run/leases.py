"""Leases on jobs: of all workers that share a results folder, one makes a job, and a dead one's job is taken over.

A lease is a file beside the records, whole from its first moment, that its holder touches while it works. Whether it
was touched lately is told by the folder's own clock: its time against that of a file written there just now, so the
clocks of machines that share the folder need not agree. A lease taken over by mistake (its holder was suspended, say)
costs a second run and never a second record: the store of a holder writes only while its lease is held.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from bench.core import environment
from bench.core.errors import RecordError, SpecError
from bench.core.files import NO_HARD_LINKS, OLD_S, create_atomic
from bench.core.processes import host, runs
from bench.core.record import Record, moment
from bench.core.spec import Spec
from bench.core.store import Store

log = logging.getLogger(__name__)

FOLDER = ".leases"
"""In the results folder; readers of records pass over hidden names."""
RENEW_S = 20.0
LIMIT_S = 120.0
"""Six renewals missed: a file server may well hold one back for a minute."""
_MOMENT_S = 0.5
_LARGEST_PID = 2**31


class LeaseLost(RecordError):
    """The job was taken over by another worker, whose record counts."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What a lease says of the process that holds it."""

    nonce: str
    host: str
    pid: int
    bench: str
    started: str


@dataclass(frozen=True, slots=True)
class _Found:
    """A lease file as it was read: its holder (None for a file that is no lease) and when it was touched."""

    holder: Holder | None
    mtime: float


class Lease:
    """A job that this process makes; renewed by a thread while it is used as a context, and given back after."""

    def __init__(self, path: Path, nonce: str, renew_s: float):
        self._path, self._nonce, self._renew_s = path, nonce, renew_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def held(self) -> bool:
        """Whether the job is still this process's."""
        found = _read(self._path)
        if found is None:  # for a moment, perhaps: a worker that judged an older holder moves it and puts it back
            time.sleep(_MOMENT_S)
            found = _read(self._path)
        return found is not None and found.holder is not None and found.holder.nonce == self._nonce

    def renew(self) -> bool:
        """Say that the holder lives; false where the lease is another's by now, which is left as it is."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except OSError:
            return False
        with os.fdopen(descriptor, "rb") as file:
            holder = _holder(file.read())
            if holder is None or holder.nonce != self._nonce:
                return False
            os.utime(file.fileno())  # of the file that was read, whatever has its name now
        return True

    def release(self) -> None:
        """Free the job, where it is still ours."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(OSError):  # one that stays is stale soon
            if self.held():
                self._path.unlink()

    def start(self) -> Lease:
        """Renew it from now on, until it is released."""
        self._thread.start()
        return self

    def __enter__(self) -> Lease:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def _keep(self) -> None:
        lost = False
        while not self._over.wait(self._renew_s):
            with suppress(OSError):  # a file server that fails once: the next renewal comes before the lease is stale
                if not self.renew() and not self.held() and not lost and not self._over.is_set():
                    log.warning("lease=%s state=lost", self._path.stem[:12])
                    lost = True


class HeldStore(Store):
    """The store as the holder of a lease sees it: it writes only while the lease is held."""

    def __init__(self, results: Path, lease: Lease):
        super().__init__(results)
        self._lease = lease

    def write(self, record: Record) -> Path:
        """As Store.write.  Raises LeaseLost where another worker has taken the job over."""
        if not self._lease.held():
            raise LeaseLost("the job was taken over by another worker", where=Spec(**record.spec.model_dump()),
                            fix="nothing: that worker's record counts")  # fmt: skip
        return super().write(record)


class Leases:
    """The leases of a results folder."""

    def __init__(self, results: Path, *, renew_s: float = RENEW_S, limit_s: float = LIMIT_S):
        self.results, self.folder = results, results / FOLDER
        self._renew_s, self._limit_s = renew_s, limit_s

    def take(self, job: str) -> Lease | None:
        """The lease on a job (its hash), or None while another process holds it.

        After taking one look in the store again: its last holder may have written the record.
        Raises RecordError when the folder cannot be written.
        """
        path = self.folder / f"{job}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            found = _read(path)
            if found is not None and (self._lives(found) or not self._clear(path, found)):
                return None
            nonce = uuid.uuid4().hex
            holder = Holder(nonce, host(), os.getpid(), environment.version(), moment(datetime.now(UTC)))
            return Lease(path, nonce, self._renew_s) if _create(path, holder) else None
        except OSError as error:
            raise RecordError("the job cannot be claimed", where=self.folder, found=error.strerror or error,
                              fix="make the results folder writable, or give another one") from error  # fmt: skip

    def wait(self, job: str, poll_s: float = 2.0) -> Lease:
        """The lease on a job, as soon as no other process holds it."""
        lease, told = self.take(job), False
        while lease is None:
            if not told:
                log.info("job=%s state=waits reason='another bench makes it'", job[:12])
                told = True
            time.sleep(poll_s)
            lease = self.take(job)
        return lease

    def refuse_another_bench(self) -> None:
        """Raises SpecError where a bench of another version is at work in the folder: records would not be alike.

        Sweeps the folder, too: each command comes here once.
        """
        self._sweep()
        for path in sorted(self.folder.glob("*.json")):
            found = _read(path)
            other = found is not None and found.holder is not None and found.holder.bench != environment.version()
            if found and found.holder and other and self._lives(found):
                raise SpecError(f"a results folder in use by bench {found.holder.bench}", where=self.results,
                                expected=f"bench {environment.version()}",
                                fix="wait until it is done, or give another --results FOLDER")  # fmt: skip

    def _sweep(self) -> None:
        """Remove what killed processes left a day ago: leases half written or half cleared, and looks at the clock."""
        hidden = list(self.folder.glob(".*"))
        with suppress(OSError):  # what cannot be removed stays
            now = self._now() if hidden else 0.0
            for path in hidden:
                if now - path.lstat().st_mtime > OLD_S:
                    path.unlink(missing_ok=True)

    def _lives(self, found: _Found) -> bool:
        holder = found.holder
        if holder is not None and holder.host == host() and not runs(holder.pid):
            return False
        # A touch far in the future is of before the clock was set back: its holder, if it lives, touches it soon.
        return abs(self._now() - found.mtime) < self._limit_s

    def _now(self) -> float:
        """The present by the clock that dates the leases."""
        probe = self.folder / f".probe-{uuid.uuid4().hex}"
        descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            os.write(descriptor, b"\n")
            os.fsync(descriptor)
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
            os.unlink(probe)

    def _clear(self, path: Path, dead: _Found) -> bool:
        """Move a dead lease out of the way, so that a new one can be created; false where it was not the one judged.

        A rename takes whatever has the name now: if that is a lease which another worker took meanwhile, it goes back.
        """
        aside = self.folder / f".{path.stem}.{uuid.uuid4().hex}.dead"
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return True  # given back, or cleared by another: all try to create it now, and one will
        now = _read(aside)
        mine = now is not None and now.holder == dead.holder and now.mtime == dead.mtime
        if not mine:
            _put_back(aside, path)
        with suppress(FileNotFoundError):
            os.unlink(aside)
        return mine


def _put_back(aside: Path, path: Path) -> None:
    """Where a third worker has created a lease meanwhile, that one stands: the moved one is lost to its holder."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if not path.exists():
            os.rename(aside, path)


def _create(path: Path, holder: Holder) -> bool:
    """Create a lease, whole; false where there is one."""
    try:
        create_atomic(path, json.dumps(asdict(holder)) + "\n")
    except FileExistsError:
        found = _read(path)  # a file server may say so of the file that it has just made
        return found is not None and found.holder == holder
    return True


def _read(path: Path) -> _Found | None:
    """A lease file and when it was last touched; None where there is none."""
    try:
        with open(path, "rb") as file:  # opening asks a file server for the file's present state
            content = file.read(4096)
            return _Found(_holder(content), os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError:
        return None


def _holder(content: bytes) -> Holder | None:
    """What a lease says, or None where it is no lease: then it goes by its age."""
    try:
        found = Holder(**json.loads(content))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = all(isinstance(text, str) for text in (found.nonce, found.host, found.bench, found.started))
    return found if texts and type(found.pid) is int and 0 < found.pid < _LARGEST_PID else None
