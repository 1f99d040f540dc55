"""Every backend behaves as the model says; the short version of ``attacks.model``."""

from contextlib import ExitStack
from functools import partial

import hypothesis
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sizes import sized

from attacks.machine import make_machine
from attacks.places import PLACES

EXAMPLES = {
    "memory": sized(20, 60),
    "dockets": sized(4, 8),
    "sqlite": sized(8, 30),
    "sqs": sized(2, 6),
}


@pytest.mark.parametrize("place", PLACES)
def test_backend_behaves_as_the_model_says(place: str, request: pytest.FixtureRequest) -> None:
    kind = PLACES[place]
    with ExitStack() as stack:
        broker = (
            request.getfixturevalue("redis_url")
            if place == "dockets"
            else stack.enter_context(kind.start())
        )

        run_state_machine_as_test(
            make_machine(partial(kind.make, broker)),
            settings=settings(
                max_examples=EXAMPLES[place],
                stateful_step_count=30,
                database=None,
                suppress_health_check=list(hypothesis.HealthCheck),
            ),
        )
