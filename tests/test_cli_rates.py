"""The rates of ``deferrable stats --watch``."""

from typing import Any

import pytest

from deferrable.cli.stats import Rates


def row(available: int, errors: int = 0, **others: Any) -> dict[str, Any]:
    counts = {"available": available, "in_flight": 0, "delayed": None, "errors": errors}
    return {"instance": "app:shop", **counts, **others}


def test_rates_are_the_changes_of_the_last_minute() -> None:
    rates = Rates()

    first = rates.added([row(10)], 1000.0)[0]
    second = rates.added([row(30, errors=5)], 1010.0)[0]
    for seconds in range(20, 200, 10):
        last = rates.added([row(30, errors=5)], 1000.0 + seconds)[0]

    assert (first["change_per_second"], first["errors_per_second"]) == (None, None)
    assert (second["change_per_second"], second["errors_per_second"]) == (2.0, 0.5)
    assert (last["change_per_second"], last["errors_per_second"]) == (0.0, 0.0)
    assert second["available"] == 30


def test_queue_that_cannot_be_read_has_no_rate_and_keeps_its_past() -> None:
    rates = Rates()
    rates.added([row(10)], 1000.0)

    failed = rates.added([{"instance": "app:shop", "error": "no answer"}], 1001.0)[0]
    again = rates.added([row(20)], 1002.0)[0]

    assert failed == {"instance": "app:shop", "error": "no answer"}
    assert again["change_per_second"] == pytest.approx(5.0)
