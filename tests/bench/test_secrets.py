"""No secret, user's name, home or host in what a run writes: some are planted wherever a run could meet them."""

from __future__ import annotations

import platform
from pathlib import Path

import damage
import pytest

from bench.cli import report
from bench.run import evaluate, execute, plan

USER, HOST, WORD = "alice-smith", "alices-laptop", "s3cret-pass-w0rd"
TOKENS = {"HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQrSt", "WANDB_API_KEY": "0123456789abcdef0123", "DB_PASSWORD": WORD}


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_planted_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    home = tmp_path / USER
    home.mkdir()
    (tmp_path / "work").mkdir()
    for name, value in {**TOKENS, "HOME": str(home), "USER": USER, "LOGNAME": USER}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(platform, "node", lambda: HOST)
    monkeypatch.chdir(tmp_path / "work")
    request = damage.tiny(home).model_copy(update={"variant": ("bert",), "results": str(tmp_path / "work" / "results")})
    told = f"{home}/x of {USER} with {TOKENS['HF_TOKEN']} at https://{USER}:{WORD}@hub.example/y, {tmp_path}/z"
    if fails:

        def broken(*_: object) -> object:
            raise ValueError(told)

        monkeypatch.setattr(evaluate, "quality", broken)
    with damage.at_home(home / "cache"):
        made = plan.make(request)
        if fails:
            with pytest.raises(ValueError, match="hub"):
                execute.run(made)
        else:
            execute.run(made)
    report.command(scale="smoke", results=["results"], reports="reports")
    files = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert len(list((tmp_path / "work" / "results").rglob("*-s0*.json"))) == 1
    assert len([path for path in files if path.is_relative_to(tmp_path / "work" / "reports")]) > 10
    for path in files:
        text = f"{path.relative_to(tmp_path)} {path.read_text(errors='replace')}"
        for secret in (*TOKENS.values(), USER, HOST, str(home), str(tmp_path)):
            assert secret not in text, (path, secret)
