"""The long version leaves nothing out, and prints at the end how each attack ended."""

import pytest

from attacks.chaos import parse
from attacks.chaos_brokers import BROKERS
from attacks.everything import ATTACKS, Attack, run_all
from attacks.places import PLACES, TROUBLED_PLACES


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


def test_every_troubled_place_is_attacked_by_cancelling() -> None:
    commands = [each.command.split() for each in ATTACKS]

    attacked = {words[2] for words in commands if words[:2] == ["attacks.cancel", "--place"]}

    assert attacked == {*PLACES, *TROUBLED_PLACES}
    assert {"full-redis", "redis6", "stepped-clock"} <= set(TROUBLED_PLACES)


def test_chaos_steps_clocks_and_fills_brokers() -> None:
    runs = [
        parse(words[1:])
        for each in ATTACKS
        if (words := each.command.split())[0] == "attacks.chaos"
    ]

    assert any(each.stepping_clock for each in runs)
    # Whatever can be full is filled: the schedule begins with each of its faults once.
    full = {each.broker for each in runs if BROKERS[each.broker].make().can_be_full}
    assert full == {"redis", "redis6"}
