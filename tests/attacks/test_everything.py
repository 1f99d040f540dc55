"""The long version leaves nothing out, and prints at the end how each attack ended."""

import pytest

from attacks.chaos import parse
from attacks.chaos_brokers import BROKERS
from attacks.everything import ATTACKS, Attack, run_all
from attacks.places import PLACES


def test_an_attack_that_fails_is_told_and_keeps_none_from_running(
    capfd: pytest.CaptureFixture[str],
) -> None:
    fails = Attack("attacks.cancel --only nothing", takes_seed=False)
    holds = Attack("attacks.cancel --only later")

    failed = run_all([fails, holds], seed=3)

    output, summary = capfd.readouterr().out.split("== summary\n")
    assert failed == [fails.command]
    assert "cancel everywhere on memory, seed 3" in output
    assert [line.split()[0] for line in summary.splitlines()] == ["FAILED", "held"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("module", ["attacks.cancel", "attacks.model"])
def test_every_place_is_attacked(module: str, place: str) -> None:
    assert any(f"{each.command} ".startswith(f"{module} --place {place} ") for each in ATTACKS)


def test_every_broker_is_attacked_by_chaos() -> None:
    commands = [each.command.split() for each in ATTACKS]

    attacked = {parse(words[1:]).broker for words in commands if words[0] == "attacks.chaos"}

    assert attacked == set(BROKERS)
