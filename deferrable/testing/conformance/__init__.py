"""The test suite for queues.

Owns the two classes that the author of a backend subclasses. Each promise about a queue is one
test, named as a sentence. All promises of every backend are here and nowhere else.
"""

from deferrable.testing.conformance._delays import Delays
from deferrable.testing.conformance._finding import Cancelling, Finding
from deferrable.testing.conformance._leases import Leases
from deferrable.testing.conformance._looking import Looking
from deferrable.testing.conformance._pausing import Pausing
from deferrable.testing.conformance._push_and_pop import PushAndPop
from deferrable.testing.conformance._reporting import Reporting
from deferrable.testing.conformance._settlement import Settlement
from deferrable.testing.conformance._some_brokers import SomeBrokers
from deferrable.testing.conformance._unique import UniqueKeys
from deferrable.testing.conformance._upkeep import QueueUpkeep
from deferrable.testing.conformance._waiting import WaitingQueueConformance

__all__ = ["QueueConformance", "WaitingQueueConformance"]


class QueueConformance(
    PushAndPop,
    Leases,
    Settlement,
    Delays,
    Looking,
    Finding,
    Cancelling,
    Pausing,
    Reporting,
    UniqueKeys,
    SomeBrokers,
    QueueUpkeep,
):
    """Every promise of a queue and its error queue, as a pytest class to subclass.

    Each test runs for the queue and for its error queue, awaited and blocking. The author defines
    `make_backend`; pytest's fixtures may be used as in any test class::

        class TestMyQueue(QueueConformance):
            @pytest.fixture(autouse=True)
            def place(self, tmp_path):
                self.path = tmp_path / "queue"

            def make_backend(self, clock):
                return MyBackendFactory(self.path, clock=clock).create_backend_for_group(None)

    `make_backend` is called once for each consumer that a test needs, with the clock that the test
    moves. All backends that it returns for one instance of the class, which is one test, are
    consumers of the same queues, which are empty at first. Their pops do not wait (or only for an
    instant), and their leases are at least 5 seconds long.

    If moving the clock is not enough to make time pass, because the broker has its own clock,
    override ``async def pass_time(self, clock, seconds)``: when it returns, a lease that was due to
    end within `seconds` has ended, and items with that delay are due.

    Attributes:
        max_redeliveries: the backend's setting.
        fences_stale_holders: False for a broker that lets a consumer settle an item after the end
            of its lease; then only the local end of the lease is tested.
        tells_releases_from_crashes: False for a broker that counts both alike.
    """
