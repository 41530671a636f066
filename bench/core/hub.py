"""What went wrong between this machine and the Hugging Face hub: one cause, and one thing to do about it.

The hub's libraries raise their own classes and those of the libraries under them, one as the cause of another. Told
here from their names, so that nothing of them is imported, and no message of theirs is shown whole.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

log = logging.getLogger(__name__)

WAITS_S = (2.0, 8.0)
"""Before the hub is asked a second and a third time for what may be a passing trouble."""

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
_KEPT = "run the same command again: what was fetched is kept"

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the hub did not give something."""

    found: str
    fix: str
    """What to do, or empty where only another source helps."""
    passing: bool = False
    """Whether it may be gone in a moment"""
    moved: bool = False
    """Whether the repository is there, and the revision is not"""


def patiently(fetch: Callable[[], Found]) -> Found:
    """What `fetch` gives; tried again after a moment where what it raises may pass. Raises what it raised last."""
    for wait in WAITS_S:
        try:
            return fetch()
        except Exception as error:
            told = trouble(error, "", "")
            if not told.passing or unresolved(error):
                raise
            log.warning("hub='%s' again_in=%gs", told.found, wait)
            time.sleep(wait)
    return fetch()


def unresolved(error: BaseException) -> bool:
    """Whether the hub's name has no address: there is no network, and the libraries have tried often enough."""
    chain = list(_chain(error))
    names = {kind.__name__ for one in chain for kind in type(one).__mro__}
    text = " ".join(map(str, chain))
    return "gaierror" in names or any(words in text for words in ("name resolution", "Name or service not known"))


def trouble(error: BaseException, page: str, revision: str) -> Trouble:
    """The cause of an error, the likeliest to be meant first.

    `page` is the repository's path on the hub's site (`datasets/owner/name` of a data set).
    """
    chain = list(_chain(error))
    names = {kind.__name__ for one in chain for kind in type(one).__mro__}
    text, status = " ".join(map(str, chain)), next(filter(None, map(_status, chain)), 0)
    if "OfflineModeIsEnabled" in names or offline():
        return Trouble("no copy in the cache, and offline mode is on",
                       f"connect once to fetch it, without {', '.join(offline() or OFFLINE[:1])}")  # fmt: skip
    if any(isinstance(one, OSError) and one.errno == errno.ENOSPC for one in chain):
        return Trouble("a full disk", "make room, or let HF_HOME name a folder on another disk")
    if "GatedRepoError" in names or "gated dataset" in text:
        return Trouble("a repository whose terms have to be accepted",
                       f"accept them on {_site()}/{page}, then: hf auth login")  # fmt: skip
    if "RevisionNotFoundError" in names:
        return Trouble(f"no revision {revision[:8] or 'main'}: it was moved or removed", "", moved=True)
    if names & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return Trouble("no such repository, or a private one", "check its name; if it is private: hf auth login")
    if status in (401, 403):
        return Trouble(f"no access (status {status})", "hf auth login, with a token that may read it")
    return _passing(names, text, status) or Trouble(_first_line(chain), "")


def _passing(names: set[str], text: str, status: int) -> Trouble | None:
    """A trouble of the hub or of the way to it."""
    if status == 429 or status >= 500:
        return Trouble(f"a hub that is busy or broken (status {status})", f"wait, then {_KEPT}", True)
    if any("Timeout" in name for name in names):
        slow = "on a slow line with HF_HUB_DOWNLOAD_TIMEOUT=60 HF_HUB_ETAG_TIMEOUT=60"
        return Trouble("no answer in time", f"{_KEPT}; {slow}", True)
    if names & {"RemoteProtocolError", "ReadError", "ProtocolError"} or "Consistency check failed" in text:
        return Trouble("a download that broke off", _KEPT, True)
    if names & {"ConnectError", "NetworkError", "ConnectionError", "gaierror", "ProxyError"}:
        return Trouble(f"no connection to {_site()}", f"connect (or correct HF_ENDPOINT), then {_KEPT}", True)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error with all that it came from, the nearest first."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]


def _status(error: Any) -> int:
    """The status of an answer of the hub that an error holds, or 0."""
    found = getattr(getattr(error, "response", None), "status_code", 0)
    return found if isinstance(found, int) else 0


def _first_line(chain: list[BaseException]) -> str:
    error = chain[0]
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.200}"


def offline() -> list[str]:
    """The variables that keep the libraries from the network."""
    return [name for name in OFFLINE if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")]


def _site() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
