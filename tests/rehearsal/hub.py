"""A little hub on 127.0.0.1: the parts of the Hugging Face hub that the bench asks for, and its faults.

HF_ENDPOINT points at it. Large files (weights, parquet) are redirected to a store of their own, as on the real hub.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["model", "dataset"]
Trouble = Literal["slow", "missing", "broken", "cut", "gated", "moved", "forbidden"]
LARGE = (".safetensors", ".parquet", ".bin")
CODES: Mapping[str, tuple[int, str, str]] = {
    "missing": (404, "RepoNotFound", "Repository not found"),
    "gated": (401, "GatedRepo", "Access to this repository is restricted"),
    "moved": (404, "RevisionNotFound", "Invalid rev id"),
    "forbidden": (403, "", "Access denied"),
    "broken": (500, "", "Internal Server Error"),
}
"""What the real hub answers: status, X-Error-Code, X-Error-Message."""


@dataclass(frozen=True)
class Repository:
    """A repository at one revision."""

    kind: Kind
    id: str
    revision: str
    files: Mapping[str, bytes]


@dataclass
class Fault:
    """What goes wrong with requests whose path holds `where`: as often as `times` says, or always."""

    what: Trouble
    where: str = ""
    times: int | None = None
    seconds: float = 0.0
    """How long a slow answer takes."""


@dataclass
class Hub:
    """What is served, what goes wrong, and what was asked for."""

    repositories: Sequence[Repository]
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""
    store: str = ""
    """Where large files lie: by another name of this machine, as the real hub's are on another one."""

    def find(self, kind: Kind, name: str) -> Repository | None:
        return next((one for one in self.repositories if (one.kind, one.id) == (kind, name)), None)

    def stored(self, sha256: str) -> bytes | None:
        every = (raw for one in self.repositories for path, raw in one.files.items() if path.endswith(LARGE))
        return next((raw for raw in every if hashlib.sha256(raw).hexdigest() == sha256), None)

    def fault(self, path: str) -> Fault | None:
        """The first fault that is left for this path; it is used up by being asked for."""
        with self.lock:
            for fault in self.faults:
                if fault.where in path and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


@contextlib.contextmanager
def serving(repositories: Sequence[Repository]) -> Iterator[Hub]:
    """Serve them on a free port of this machine, in threads, until the context ends."""
    hub = Hub(repositories)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    hub.store = f"http://localhost:{server.server_address[1]}/store"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_API = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_POST(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        fault = self.hub.fault(path)
        if fault is not None and fault.what == "slow":
            sleep(fault.seconds)
        elif fault is not None and fault.what != "cut":
            return self._refuse(*CODES[fault.what])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who asked has given up
            if match := _API.fullmatch(path):
                return self._api(match, parse_qs(sent.decode()))
            if match := _FILE.fullmatch(path):
                return self._file(match, body, fault)
            raw = self.hub.stored(path.removeprefix("/store/"))
            if raw is None:
                return self._refuse(404, "EntryNotFound", "Entry not found")
            self._send(raw, body, {"ETag": f'"{path[7:]}"'}, cut=_cuts(fault))

    def _refuse(self, status: int, code: str, message: str) -> None:
        raw = json.dumps({"error": message}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _found(self, kind: Kind, name: str, revision: str | None) -> Repository | None:
        """The repository at a revision, or None after what is missing was said."""
        found = self.hub.find(kind, name)
        if found is None:
            self._refuse(*CODES["missing"])
        elif revision not in (None, "main", found.revision):
            self._refuse(*CODES["moved"])
            return None
        return found

    def _api(self, match: re.Match[str], given: Mapping[str, list[str]]) -> None:
        kind, name, what, revision, below = match.groups()
        found = self._found("model" if kind == "model" else "dataset", name, revision)
        if found is None:
            return
        if what in (None, "revision"):
            siblings = [{"rfilename": path} for path in found.files]
            return self._json({"id": name, "_id": "0" * 24, "sha": found.revision, "siblings": siblings,
                               "private": False, "gated": False, "tags": [], "downloads": 0, "likes": 0})  # fmt: skip
        if what == "tree":
            every = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("1", "true")
            return self._json(_tree(found.files, f"{below}/" if below else "", every))
        folders = {path.rpartition("/")[0] for path in found.files} - {""}
        asked = given.get("paths", [])
        self._json([_entry(path, found.files[path]) for path in asked if path in found.files]
                   + [_folder(path) for path in asked if path in folders])  # fmt: skip

    def _json(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), True, {"Content-Type": "application/json"})

    def _file(self, match: re.Match[str], body: bool, fault: Fault | None) -> None:
        dataset, name, revision, path = match.groups()
        found = self._found("dataset" if dataset else "model", name, revision)
        if found is None:
            return
        raw = found.files.get(path)
        if raw is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        commit = {"X-Repo-Commit": found.revision}
        if not path.endswith(LARGE):
            return self._send(raw, body, commit | {"ETag": f'"{_oid(raw)}"'}, cut=_cuts(fault))
        sha256 = hashlib.sha256(raw).hexdigest()
        self.send_response(302)
        for key, value in (
            commit
            | {
                "X-Linked-Etag": f'"{sha256}"',
                "X-Linked-Size": str(len(raw)),
                "Location": f"{self.hub.store}/{sha256}",
                "Content-Length": "0",
            }
        ).items():
            self.send_header(key, value)
        self.end_headers()

    def _send(self, raw: bytes, body: bool, headers: dict[str, str], cut: bool = False) -> None:
        """The whole, or from the byte on that a Range header asks for; `cut` breaks off in the middle."""
        start = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(raw) - 1}/{len(raw)}")
        for key, value in (headers | {"Content-Length": str(len(raw) - start)}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            rest = raw[start:]
            self.wfile.write(rest[: len(rest) // 2] if cut else rest)
        if cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)


def _cuts(fault: Fault | None) -> bool:
    return fault is not None and fault.what == "cut"


def _oid(raw: bytes) -> str:
    """Git's own name of a file."""
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}


def _tree(files: Mapping[str, bytes], inside: str, every: bool) -> list[dict[str, Any]]:
    """What lies in a folder: files and folders, those further below where `every` is asked for."""
    below = {path: raw for path, raw in files.items() if path.startswith(inside)}
    depths = [path.removeprefix(inside).split("/") for path in below]
    folders = {inside + "/".join(parts[:n]) for parts in depths for n in range(1, len(parts)) if every or n == 1}
    files = {path: raw for path, raw in below.items() if every or "/" not in path.removeprefix(inside)}
    return [*map(_folder, sorted(folders)), *(_entry(path, raw) for path, raw in files.items())]


def _entry(path: str, raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "path": path, "size": len(raw), "oid": _oid(raw)}
    if path.endswith(LARGE):
        found["lfs"] = {"oid": hashlib.sha256(raw).hexdigest(), "size": len(raw), "pointerSize": 130}
    return found
