"""What a claim is: one printed number, or one ordering of variants that a paper printed; and a ledger of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

from bench.claims.units import METRICS, TEST_SERVER, UNITS, Direction
from bench.core.errors import ClaimError

Kind = Literal["quality", "retention", "size", "flops", "speed", "cost", "ordering"]
Derive = Literal["none", "ratio_to", "percent_of", "difference_to"]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Aggregation = Annotated[str, StringConstraints(pattern=r"^(median of [1-9][0-9]{0,3}|mean|single|test server|none)$")]
Number = Annotated[float, Field(strict=True)]
"""No text, and no true: which would pass for 1."""
Whole = Annotated[int, Field(strict=True, ge=1, le=100_000)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._+-]*$")]


class Part(BaseModel):
    """Frozen, and strict about what it holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tolerance(Part):
    """The band around a printed value, fixed before any run; in the unit of records (0.01 is one point)."""

    absolute: Number = Field(default=0.0, ge=0)
    relative: Number = Field(default=0.0, ge=0)
    """A share of the printed value, as records would hold it."""
    why: Text

    def width(self, value: float) -> float:
        """How far the band reaches each way from a value, both in the unit of records."""
        return self.absolute + self.relative * abs(value)


class Entry(Part):
    """One task of an average or an ordering: the mean over its metrics and splits is what enters."""

    task: str
    metrics: tuple[str, ...] = Field(min_length=1)
    splits: tuple[str, ...] = Field(min_length=1)

    def cells(self) -> tuple[tuple[str, str, str], ...]:
        """(task, metric, split) of every number that enters."""
        return tuple((self.task, metric, split) for metric, split in self.names())

    def names(self) -> tuple[tuple[str, str], ...]:
        """(metric, split) of every number that enters, as records name it."""
        return tuple((metric, split) for metric in self.metrics for split in self.splits)


class Paper(Part):
    """Where the claims are from."""

    name: Identifier
    title: Text
    label: Text
    """What the model is called."""
    arxiv: Annotated[str, StringConstraints(pattern=r"^([0-9]{2}(0[1-9]|1[0-2])\.[0-9]{4,5}v[1-9][0-9]*)?$")]
    """With its version; empty for a paper that is not there."""
    venue: Text
    code: Annotated[str, StringConstraints(pattern=r"^(https://\S+)?$")]
    commit: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{7,40})?$")]
    reference: bool = False
    """Whether its model is the teacher that the others are compared with."""
    released: dict[str, str] = Field(default_factory=dict)
    """variant -> the variant made from the authors' checkpoint, whose runs may answer its claims too."""
    made_once: str = ""
    """What all seeds of a variant share, as a sentence: no interval of an ordering holds what another would change."""


class Claim(Part):
    """One printed number, or one ordering."""

    id: Identifier
    says: Text
    kind: Kind
    variant: Text
    """The model that the number is about; for an ordering, the best one."""
    made_by: str = ""
    """The paper whose recipe makes the variant, where it is not this one."""
    task: str = ""
    """Empty where the number belongs to no task, or to several."""
    split: str = ""
    metric: str
    value: Number | None = None
    unit: str = ""
    source: Text
    printed_by: str = ""
    """Who printed it, where that is neither the paper nor its authors."""
    table: str = ""
    transcription: Literal["seen", "second-hand", "recalled", "ours"]
    """How surely the print is known; `ours` where nobody printed it: a control that the method's idea implies."""
    aggregation: Aggregation
    conditions: str = ""
    device: str = ""
    """A piece of the name of the processor or GPU it was measured on; on any other one it can only be a proxy."""
    derive: Derive = "none"
    reference: str = ""
    """The id of the claim whose variant this number is relative to, or `teacher` where no number of it was printed."""
    seeds: Whole = Field(default=5, le=1000)
    """Runs that a verdict at tier exact or checkpoint takes."""
    metric_stated: bool = True
    """False where the source does not say which metric it printed, and ours is a reading of it."""
    order: tuple[str, ...] = ()
    """Variants from worst to best (kind ordering)."""
    average: str = ""
    """The name of the task list of an average or an ordering."""
    recompute: bool = True
    """False for an average whose own cells the source does not print."""
    misprint: str = ""
    """Why the printed average does not recompute from the printed cells."""
    out_of_reach: str = ""
    """What judging it would take, where no run here can."""
    headline: bool = False
    """Whether the paper is known for it: an abstract's number, shown first."""
    fine_print: str = ""
    """What a headline leaves out, in one line; {id} stands for what was printed there, {id / id} for the ratio."""
    derived_from: tuple[str, ...] = ()
    """The ids of the two printed scores whose ratio this is; filled in by the reader, empty for what was printed."""
    tolerance: Tolerance | None = None
    tasks: tuple[Entry, ...] = ()
    """Filled in from `average`."""

    @property
    def paper(self) -> str:
        """The paper in whose ledger it stands."""
        return self.id.partition(".")[0]

    @property
    def by_arithmetic(self) -> bool:
        """Whether it is bytes that were computed from a number of bits, as ours of that name are: no file has them."""
        return self.metric in ("size_bytes", "size_ratio") and self.split.startswith(("packed", "activations"))

    @property
    def is_printed(self) -> bool:
        """Whether a paper printed it: a control of ours is judged like a claim and counted as none."""
        return self.transcription != "ours"

    @property
    def maker(self) -> str:
        """The paper whose records are about this claim."""
        return self.made_by or self.paper

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that it is about, as `[unmade]` names them: VARIANT and VARIANT/TASK of each variant and task."""
        variants = dict.fromkeys((self.variant, *self.order))
        tasks = [task for task in (self.task, *(entry.task for entry in self.tasks)) if task]
        return tuple(name for one in variants for name in (one, *(f"{one}/{task}" for task in tasks)))

    @property
    def on_test_server(self) -> bool:
        """Whether any of its numbers is from the GLUE test server."""
        splits = {self.split, *(split for entry in self.tasks for split in entry.splits)}
        return any(split.startswith(TEST_SERVER) for split in splits)

    @property
    def direction(self) -> Direction:
        """Which way is better, in the unit of records."""
        return "match" if self.derive == "difference_to" else METRICS[self.metric].better

    def number(self) -> float:
        """The printed value. Raises: ClaimError for an ordering, which has none."""
        if self.value is None:
            raise ClaimError("an ordering has no value", where=self.id)
        return self.value


TEACHER = "teacher"
"""The reference of a number that is relative to the own teacher, whose own number the source does not print."""

RATIOS = ("speedup", "parameters_ratio", "size_ratio", "flops_ratio")
"""Metrics that records already hold as ratios to the run's own teacher."""


class System(Part):
    """One row of the no-free-lunch table: a model that somebody might deploy, and the claims that speak for it."""

    name: Text
    variant: Identifier
    size: str = ""
    """The id of the claim on its size; `speed`, `retention` and `cost` alike. Empty where nothing was printed."""
    speed: str = ""
    retention: str = ""
    cost: str = ""
    devices: Whole = 1
    """How many devices ran for the time of the claim on the cost."""
    backend: str = ""
    """The kernels that its speed takes, as `bench measure --backend` names them; empty for plain floats."""
    timed_as: str = ""
    """The variant whose shape stands for its speed, where that is another paper's (`paper/variant`)."""
    scored_as: str = ""
    """The variant of this paper whose runs say what it keeps, where `variant` is a shape that nobody trains."""
    stand_in: bool = False
    """Whether its network was not published, so that ours is a guess at it."""
    needs: Text
    """What making it takes besides time: data, labels, teachers."""


class Unmade(RootModel[dict[str, Text]]):
    """Of which no recipe makes a run: VARIANT or VARIANT/TASK -> what judging a claim on it would take."""


class Caveats(RootModel[dict[str, Text]]):
    """A setting (`search.gradient`) -> what is wrong with runs that were made before it was one."""


class Ledger(Part):
    """All claims of one paper; `bench.claims.ledger.load` checks it."""

    paper: Paper
    tolerances: dict[str, Tolerance]
    averages: dict[str, tuple[Entry, ...]]
    claims: tuple[Claim, ...]
    systems: tuple[System, ...] = ()
    unmade: Mapping[str, str] = {}
    """See `Unmade`."""
    caveats: Mapping[str, str] = {}
    """See `Caveats`."""
    file: str

    @cached_property
    def by_id(self) -> Mapping[str, Claim]:
        """id -> claim; of two of one id the later, which `bench.claims.meaning.check` refuses."""
        return {claim.id: claim for claim in self.claims}

    def tolerance(self, claim: Claim) -> Tolerance | None:
        """The claim's own, else that of its metric on its task (`accuracy@rte`), else that of its metric, else None.

        A derived claim or a retention looks for its own name (`difference_to`, `retention`) instead of its metric's.
        """
        name = claim.metric
        if claim.derive == "difference_to":
            name = "difference_to"
        elif claim.kind == "retention":
            name = "retention"
        return claim.tolerance or self.tolerances.get(f"{name}@{claim.task}") or self.tolerances.get(name)

    def band(self, claim: Claim) -> tuple[float, float]:
        """Lowest and highest value that counts as the printed one, in the unit of records.

        Raises: ClaimError for an ordering, AssertionError for a claim without a tolerance (no ledger that was loaded).
        """
        tolerance = self.tolerance(claim)
        assert tolerance is not None, "checked when the ledger was loaded"
        value = UNITS[claim.unit].to_record(claim.number())
        width = tolerance.width(value)
        return value - width, value + width

    def printed_band(self, claim: Claim) -> tuple[float, float]:
        """The band in the unit as printed. Raises: as `band`."""
        # Sorted again: where a larger printed value is a smaller one in records, the ends change places.
        low, high = sorted(map(UNITS[claim.unit].to_print, self.band(claim)))
        return low, high
