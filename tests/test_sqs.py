"""The SQS backend: the conformance suite, and what is special to its queues."""

from typing import Any, ClassVar

import pytest
from sizes import IS_FULL
from sqs_server import SQSServer

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import SQSBackendFactory
from deferrable.testing import MovingClock, QueueConformance, WaitingQueueConformance
from deferrable.testing.conformance._some_brokers import SomeBrokers

EXACT = {
    "test_a_fraction_of_a_second_is_never_cut_off",
    "test_a_release_with_a_delay_is_kept_or_refused_as_the_flag_says",
}
"""They look at what is hidden less than a second before it comes back."""


@pytest.mark.usefixtures("standing_time")
class SQS:
    """SQS cannot tell a release from a crash, and deletes by stale handles."""

    wait_time: float = 0
    settings: ClassVar[dict[str, Any]] = {}
    max_redeliveries = 10
    fences_stale_holders = False
    tells_releases_from_crashes = False

    @pytest.fixture(autouse=True)
    def place(
        self,
        request: pytest.FixtureRequest,
        sqs_server: SQSServer,
        sqs_group: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if request.node.originalname in EXACT:
            sqs_server.skip_without_exact_time()
        sqs_server.set_environment(monkeypatch)
        self.server = sqs_server
        self.group = sqs_group

    def make_backend(self, clock: MovingClock) -> Backend:
        factory = SQSBackendFactory(
            wait_time=self.wait_time,
            max_receive_count=self.max_redeliveries + 1,
            clock=clock,
            **self.settings,
        )
        return factory.create_backend_for_group(self.group)

    async def pass_time(self, clock: MovingClock, seconds: float) -> None:
        await self.server.pass_time(f"deferrable_{self.group}", seconds)
        clock.advance(seconds)


# Each request costs moto 10 ms, so that both roles and both APIs are shown, but not each of both.
SIDES = [("queue", "blocking"), ("error_queue", "awaiting")]
if IS_FULL:
    SIDES += [("queue", "awaiting"), ("error_queue", "blocking")]


@pytest.mark.parametrize(("role", "face"), SIDES, indirect=True)
class TestSQSQueue(SQS, QueueConformance):
    @pytest.fixture(autouse=True)
    def side(self, role: str, face: object) -> None:
        """Each test is seen from a side, those that look at the queue alone too."""


@pytest.mark.parametrize(("role", "face"), SIDES[:1], indirect=True)
class TestSQSFifoQueue(SQS, SomeBrokers):
    settings: ClassVar[dict[str, Any]] = {
        "retry": "visibility",
    }

    @pytest.fixture
    def sqs_group(self, sqs_group: str) -> str:
        return f"{sqs_group}.fifo"


class TestWaitingSQSQueue(SQS, WaitingQueueConformance):
    wait_time = 2
    wait_seconds = 2

    @pytest.fixture(params=["queue"])
    def role(self, request: pytest.FixtureRequest) -> str:
        """Pops of an error queue wait for a second at most, whatever the setting."""
        return str(request.param)
