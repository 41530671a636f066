"""A cache that machines share without a common file system: what is sealed is copied to and from an URL.

`BENCH_HOME=s3://bucket/bench` (or any other URL that fsspec opens) keeps each entry there as one zip file. What is
read is always a local copy under the user's cache folder, verified by its checksums; unfinished training and teacher
logits stay on the machine that made them.
"""

from __future__ import annotations

import logging
import os
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.core import sealed
from bench.core.errors import SpecError
from bench.core.files import whole_folder
from bench.core.paths import made_home, shared_url
from bench.run.cache import Cache

log = logging.getLogger(__name__)


def opened() -> Cache:
    """The cache that BENCH_HOME names, its local folder there now. Raises SpecError where it cannot be opened."""
    url = shared_url()
    return SharedCache(made_home(), url) if url else Cache(made_home())


class SharedCache(Cache):
    """A cache whose entries lie at an URL, too."""

    def __init__(self, root: Path, url: str):
        super().__init__(root)
        from fsspec.core import url_to_fs  # only who names an URL waits for it

        self._url = url
        try:
            self._files, self._base = url_to_fs(url)
        except Exception as error:  # of as many kinds as there are stores: unknown, not installed, no credentials
            raise SpecError("the cache's URL cannot be opened", where=f"BENCH_HOME {url}", found=error,
                            expected="a folder, or an URL that fsspec opens",
                            fix="install what that kind of URL needs, or give a folder") from error  # fmt: skip

    def has(self, key: str) -> bool:
        return self.is_here(key) or self._there(key)

    def whole(self, key: str) -> bool:
        return super().whole(key) or (self._fetch(key) and super().whole(key))

    def check(self, key: str) -> dict[str, Any]:
        with suppress(OSError):  # what cannot be read is told below, with its entry
            self.whole(key)
        return super().check(key)

    def manifest(self, key: str) -> dict[str, Any]:
        if not self.is_here(key):
            self._fetch(key)
        return super().manifest(key)

    def check_writable(self, keys: Sequence[str]) -> None:
        super().check_writable(keys)
        try:
            self._files.makedirs(self._base, exist_ok=True)
        except Exception as error:
            raise SpecError("the cache's URL cannot be written", where=f"BENCH_HOME {self._url}", found=error,
                            fix="give one that can be") from error  # fmt: skip

    def _write(self, key: str, write: Callable[[Path], None]) -> bool:
        kept = super()._write(key, write)
        place = self._place(key)
        part = f"{place}.{uuid.uuid4().hex}.writing"
        try:
            with _zipped(self.entry(key)) as file:
                self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(file), part)
                self._files.mv(part, place)
            return True
        except Exception as error:
            log.warning("a stage cannot be copied to %s (%s): other machines make it again", self._url, error)
            with suppress(Exception):
                self._files.rm_file(part)
        return kept

    def _place(self, key: str) -> str:
        return f"{self._base}/stages/{key[:2]}/{key}.zip"

    def _there(self, key: str) -> bool:
        try:
            return self._files.exists(self._place(key))
        except Exception as error:
            log.warning("%s cannot be read (%s): stages are made here", self._url, error)
            return False

    def _fetch(self, key: str) -> bool:
        """Copy an entry from the URL, and what it refers to; a damaged one is named, removed there and made again."""
        if not self._there(key):
            return False
        if super().whole(key):  # another process has fetched it meanwhile, and may be reading it
            return True
        self.clear(key)
        try:
            with tempfile.TemporaryDirectory() as folder, whole_folder(self.entry(key)) as staging:
                file = Path(folder) / "entry.zip"
                self._files.get_file(self._place(key), str(file))
                with zipfile.ZipFile(file) as packed:
                    packed.extractall(staging)  # which leaves no folder, whatever its names say
                content = sealed.checked(staging)
        except (sealed.Damaged, zipfile.BadZipFile, FileNotFoundError, ValueError) as damage:
            log.warning("the cache entry %s is damaged: %s; it is made again", self._place(key), damage)
            with suppress(Exception):
                self._files.rm_file(self._place(key))
            return False
        except Exception as error:
            log.warning("%s cannot be read (%s): stages are made here", self._url, error)
            return False
        others = [other for other in content.get("models", {}).values() if other != key]
        return all(self.is_here(other) or self._fetch(other) for other in others)


@contextmanager
def _zipped(folder: Path) -> Iterator[Path]:
    """All files of an entry as one, uncompressed: weights do not become smaller."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "entry.zip"
        with zipfile.ZipFile(file, "w") as packed:
            for at, _, names in os.walk(folder):
                for one in sorted(names):
                    packed.write(Path(at) / one, (Path(at) / one).relative_to(folder))
        yield file
