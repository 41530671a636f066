"""`bench schema`: the JSON schema of records, or of what a claims.toml may say of a claim."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.output import say_json
from bench.core.errors import SpecError


def command(what: Annotated[str, typer.Argument(help="record or claims")]) -> None:
    """The JSON schema of records or claims."""
    if what == "record":
        from bench.core.record import Record

        return say_json(Record.model_json_schema())
    if what == "claims":
        from bench.claims.claim import Claim

        return say_json(Claim.model_json_schema())
    raise SpecError("unknown schema", found=what, expected="record or claims", fix="bench schema record")
