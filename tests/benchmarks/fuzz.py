"""200,000 broken inputs for every reader of files and names: refused in one clear line, or taken for what they say.

    python tests/benchmarks/fuzz.py [INPUTS] [SEED]     200,000 and 0 by default, about 10 minutes on one core

Good profiles, ledgers, records, baselines, leases, configs, weight files and names are changed: bytes flipped and cut,
values replaced by what cannot be (a score of 1.7, a NaN, the 30th of February, a path out of the folder). Each input
must end in an error of the bench, on one line, or be read: then nothing of it may be impossible, it must come back
as it was when it is written and read again, and no file outside its folder may have been touched. The last line counts
inputs, refused, accepted and tracebacks by reader; exit 1 at any traceback, or where the impossible was accepted.
Whole teacher folders are in fuzz_inputs.py, tables of data in fuzz_tables.py; the short form is test_fuzz.py.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fuzz_parts.ledgers import Ledgers
from fuzz_parts.models import Configs, Weights
from fuzz_parts.names import Names, Profiles
from fuzz_parts.reader import Impossible, Reader
from fuzz_parts.records import Baselines, Leases, Records

from bench.core.errors import BenchError

READERS: tuple[type[Reader], ...] = (Records, Ledgers, Profiles, Names, Configs, Weights, Baselines, Leases)
SHOWN, LARGEST = 3, 600
"""Of findings of one kind so many are shown, and so much of the input."""
LONGEST = 4000
"""Letters of a clear error."""


def tried(reader: Reader, chance: random.Random, findings: Counter[str]) -> str:
    """One input, and how it ended: refused, accepted, traceback or impossible."""
    try:
        reader.one(chance)
    except BenchError as error:
        text = str(error)
        if "\n" not in text and text.isprintable() and 0 < len(text) < LONGEST and error.exit_code == 2:
            return "refused"
        ending, told = "unclear", f"an error that is not clear: {text!r:.300}"
    except Impossible as error:
        ending, told = "impossible", str(error)
    except Exception as error:
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/bench/" in frame.filename]
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        ending, told = "traceback", f"{type(error).__name__} at {at}: {error!s:.100}"
    else:
        return "accepted"
    kind = re.sub(r"[0-9]+|found .*", "", f"{reader.name}: {ending}: {told[:40]}")
    findings[kind] += 1
    if findings[kind] <= SHOWN:
        print(f"{reader.name}: {ending}: {told}\n    of {reader.last!r:.{LARGEST}}", flush=True)
    return ending


def fuzz(inputs: int, seed: int, folder: Path, kinds: Sequence[type[Reader]] = READERS) -> dict[str, Counter[str]]:
    """Reader -> how its inputs ended; each has its share of so many."""
    endings: dict[str, Counter[str]] = {}
    whole, findings = sum(kind.inputs for kind in kinds), Counter[str]()
    for kind in kinds:
        own = folder / kind.__name__.lower()
        own.mkdir()
        began, chance = time.monotonic(), random.Random(f"{seed} {kind.name}")
        reader, share = kind(own), -(-inputs * kind.inputs // whole)
        endings[reader.name] = Counter(tried(reader, chance, findings) for _ in range(share))
        print(f"{reader.name}: {dict(endings[reader.name])}, {time.monotonic() - began:.0f} s", flush=True)
    return endings


def main() -> None:
    inputs, seed = (int(text) for text in (*sys.argv[1:], *("200000", "0")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as name:
        endings = fuzz(inputs, seed, Path(name).resolve())
    every = sum(endings.values(), Counter[str]())
    wrong = sum(every[name] for name in ("traceback", "impossible", "unclear"))
    each = ", ".join(f"{name} {sum(found.values())}" for name, found in endings.items())
    print(f"inputs {sum(every.values())} ({each}), refused {every['refused']}, accepted {every['accepted']}, "
          f"tracebacks {every['traceback']}, impossible and accepted {every['impossible']}, "
          f"unclear {every['unclear']}")  # fmt: skip
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
