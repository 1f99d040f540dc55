"""The errors hash as a queue: what lies there, who holds what, and what is repaired.

Whatever is true of every error queue is in the conformance suite.
"""

import asyncio
import json
import multiprocessing
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dockets_place import LEASE, UNREADABLE, Monitor, Place, check_kept
from processes import DEADLINE_SECONDS
from redis_proxy import Wire, wire_to
from redis_server import RedisServer

from deferrable.aio.backend.dockets import DocketsErrorQueue, _commands
from deferrable.errors import BackendUnavailable, LeaseLost

pytestmark = pytest.mark.anyio


class ErrorPlace(Place):
    def error_queue(self, url: str | None = None, **options: Any) -> DocketsErrorQueue:
        queue = self.backend(url, **options).error_queue
        assert isinstance(queue, DocketsErrorQueue)
        return queue

    def put_errors(self, **errors: Any) -> None:
        texts = {
            error_id: value if isinstance(value, bytes) else json.dumps(value)
            for error_id, value in errors.items()
        }
        self.redis.hset(self.keys.errors, mapping=texts)

    def leases(self) -> dict[str, float]:
        pairs = self.redis.zrange(self.keys.error_leases, 0, -1, withscores=True)
        return {member.decode(): score for member, score in pairs}


@pytest.fixture
async def place(redis_server: RedisServer) -> AsyncIterator[ErrorPlace]:
    place = ErrorPlace(redis_server)
    yield place
    await place.close()


@pytest.fixture
async def wire(redis_server: RedisServer) -> AsyncIterator[Wire]:
    async with wire_to(redis_server.port) as wire:
        yield wire


def error(error_id: str, **fields: Any) -> dict[str, Any]:
    return {"n": error_id, "error": {"id": error_id, **fields}}


class TestPush:
    async def test_an_error_lies_in_the_hash_under_its_id_without_an_envelope(
        self, place: ErrorPlace
    ) -> None:
        await place.error_queue().push(error("e1", ts=3))

        assert place.errors() == {"e1": error("e1", ts=3)}

    @pytest.mark.parametrize(
        "item", [{"n": 1}, {"n": 1, "error": {"ts": 2}}, {"n": 1, "error": {"id": ""}}]
    )
    async def test_an_error_without_an_id_gets_one(
        self, place: ErrorPlace, item: dict[str, Any]
    ) -> None:
        before = json.dumps(item)

        await place.error_queue().push(item)

        ((error_id, kept),) = place.errors().items()
        assert kept["error"]["id"] == error_id
        assert {**kept["error"], "id": ""} == {**item.get("error", {}), "id": ""}
        assert json.dumps(item) == before

    @pytest.mark.parametrize("value", ["text", None, 7, ["a"]])
    async def test_an_error_field_of_another_kind_is_kept_as_it_is(
        self, place: ErrorPlace, value: Any
    ) -> None:
        await place.error_queue().push({"error": value})

        assert list(place.errors().values()) == [{"error": value}]

    async def test_many_errors_are_one_command(self, place: ErrorPlace) -> None:
        queue = place.error_queue()
        await queue.push(error("first"))

        with Monitor(place.server) as monitor:
            await queue.push_batch([error(f"e{number}") for number in range(300)])

            assert monitor.names(place.group) == ["EVALSHA"]
        assert len(place.errors()) == 301


class TestLeases:
    async def test_two_consumers_get_different_errors(self, place: ErrorPlace) -> None:
        one, two = place.error_queue(), place.error_queue()
        await one.push_batch([error("a"), error("b")])

        popped = [(await queue.pop())[1] for queue in (one, two, one, two)]

        assert sorted(each["n"] for each in popped if each) == ["a", "b"]

    async def test_a_lease_lies_beside_the_hash_until_its_end(self, place: ErrorPlace) -> None:
        queue = place.error_queue()
        await queue.push(error("a"))

        envelope, _ = await queue.pop()

        assert envelope is not None
        assert place.leases() == {"a": place.clock.time() + LEASE}
        assert await queue.stats() == {"available": 0, "in_flight": 1}
        await queue.touch(envelope, LEASE + 50)
        assert place.leases() == {"a": place.clock.time() + LEASE + 50}

    async def test_the_servers_clock_says_when_a_lease_ends(self, place: ErrorPlace) -> None:
        queue = place.error_queue(clock=None)
        await queue.push(error("a"))
        envelope, _ = await queue.pop()
        assert envelope is not None

        seconds, microseconds = place.redis.time()
        after_pop = place.leases()["a"]
        await queue.touch(envelope, 1000)

        now = seconds + microseconds / 1e6
        assert after_pop == pytest.approx(now + LEASE, abs=5)
        assert now + 1000 <= place.leases()["a"] <= now + 1005

    @pytest.mark.parametrize("verb", ["complete", "flush", "release"])
    async def test_no_lease_stays_behind(self, place: ErrorPlace, verb: str) -> None:
        queue = place.error_queue()
        await queue.push(error("a"))
        envelope, _ = await queue.pop()

        await (queue.flush() if verb == "flush" else getattr(queue, verb)(envelope))

        assert place.leases() == {}
        assert set(place.errors()) == ({"a"} if verb == "release" else set())

    async def test_leases_of_errors_that_somebody_removed_are_swept(
        self, place: ErrorPlace
    ) -> None:
        queue = place.error_queue()
        await queue.push_batch([error("a"), error("b")])
        await queue.pop_batch(2)
        place.redis.hdel(place.keys.errors, "a")
        in_between = await queue.stats()

        place.clock.advance(LEASE)
        await queue.pop_batch(2)

        assert in_between == {"available": 0, "in_flight": 1}
        assert list(place.leases()) == ["b"]

    @pytest.mark.parametrize("verb", ["touch", "complete", "release"])
    async def test_an_error_that_somebody_removed_is_lost(
        self, place: ErrorPlace, verb: str
    ) -> None:
        queue = place.error_queue()
        await queue.push(error("a"))
        envelope, _ = await queue.pop()
        place.redis.hdel(place.keys.errors, "a")

        with pytest.raises(LeaseLost):
            await getattr(queue, verb)(envelope)

    def test_a_forked_child_holds_no_lease_of_its_parent(self, redis_server: RedisServer) -> None:
        place = ErrorPlace(redis_server)
        queue = place.error_queue()
        place.put_errors(a=error("a"))
        envelope, _ = asyncio.run(queue.pop())
        assert envelope is not None

        def in_child() -> None:
            async def use() -> int:
                try:
                    await queue.complete(envelope)
                except LeaseLost:
                    return 0
                return 1

            os._exit(asyncio.new_event_loop().run_until_complete(use()))

        child = multiprocessing.get_context("fork").Process(target=in_child)
        child.start()
        child.join()

        assert child.exitcode == 0
        asyncio.run(queue.complete(envelope))
        asyncio.run(place.close())

    async def test_a_release_with_a_delay_hides_the_error_for_so_long(
        self, place: ErrorPlace
    ) -> None:
        queue = place.error_queue()
        await queue.push(error("a"))
        envelope, _ = await queue.pop()
        assert envelope is not None

        await queue.release(envelope, 10)
        place.clock.advance(9)
        early = await queue.pop()
        place.clock.advance(1)

        assert early == (None, None)
        assert (await queue.pop())[1] == error("a")


class TestLookingThroughTheHash:
    async def test_one_free_error_among_thousands_of_leased_ones_is_found(
        self, place: ErrorPlace
    ) -> None:
        busy, idle = place.error_queue(), place.error_queue()
        await busy.push_batch([error(f"e{number}") for number in range(5000)])
        taken = 0
        while taken < 5000:
            taken += len(await busy.pop_batch(1000))
        await busy.push(error("free"))

        _, found = await idle.pop()
        nothing = await idle.pop()

        assert found == error("free")
        assert nothing == (None, None)

    async def test_every_error_is_found_once_however_many_are_asked_for(
        self, place: ErrorPlace
    ) -> None:
        queue = place.error_queue()
        await queue.push_batch([{**error(f"e{number}"), "pad": "x" * 100} for number in range(700)])

        found: list[str] = []
        for count in [1, 7, 50, 3] * 100:
            popped = await queue.pop_batch(count)
            found += [item["n"] for _, item in popped]
            if not popped:
                break

        assert sorted(found) == sorted(f"e{number}" for number in range(700))

    async def test_an_error_that_is_pushed_behind_the_place_looked_at_is_found_too(
        self, place: ErrorPlace
    ) -> None:
        queue = place.error_queue()
        await queue.push_batch([{**error(f"e{number}"), "pad": "x" * 100} for number in range(700)])
        await queue.pop_batch(350)
        await queue.push_batch([{**error(f"f{number}"), "pad": "x" * 100} for number in range(50)])

        found = []
        while popped := await queue.pop_batch(100):
            found += [item["n"] for _, item in popped]

        assert len(found) == 400

    async def test_an_error_given_back_behind_the_place_looked_at_is_found_at_once(
        self, place: ErrorPlace
    ) -> None:
        queue, other = place.error_queue(), place.error_queue()
        await queue.push_batch([{**error(f"e{number}"), "pad": "x" * 100} for number in range(700)])
        first, *_ = [each for each, _ in await queue.pop_batch(350)]
        while await other.pop_batch(350):
            pass

        await queue.release(first)

        assert (await queue.pop())[1] is not None

    async def test_a_batch_comes_with_the_oldest_error_first(self, place: ErrorPlace) -> None:
        queue = place.error_queue()
        place.put_errors(c=error("c", ts=3), a=error("a", ts=1), b=error("b", ts=2), d={"ts": 0})

        popped = await queue.pop_batch(4)

        assert [item.get("n") for _, item in popped] == [None, "a", "b", "c"]

    async def test_a_pop_does_not_wait_for_an_error(self, place: ErrorPlace) -> None:
        queue = place.error_queue(wait_time=300)

        assert await asyncio.wait_for(queue.pop(), 30) == (None, None)


class TestRepair:
    @pytest.mark.parametrize(
        "raw",
        [
            raw
            for name, raw in UNREADABLE.items()
            if name not in ("no item", "an item that is no object")
        ],
    )
    async def test_an_unreadable_error_is_replaced_by_one_that_is_readable(
        self, place: ErrorPlace, raw: bytes
    ) -> None:
        raw = raw.replace(b'{"item": {"n": 1}', b"{")  # an error has no envelope
        place.put_errors(bad=raw)

        envelope, item = await place.error_queue().pop()

        assert envelope is not None
        assert item == place.errors()["bad"]
        check_kept(place, raw)

    async def test_an_error_recorded_by_dockets_itself_is_read_as_it_is(
        self, place: ErrorPlace
    ) -> None:
        record = {"envelope": {"item": {"n": 1}}, "error_type": "KeyError", "id": "x", "ts": 1}
        place.put_errors(x=record)

        envelope, item = await place.error_queue().pop()

        assert envelope is not None
        assert item == record


class TestReplace:
    async def test_an_error_goes_back_to_the_queue_in_one_step(self, place: ErrorPlace) -> None:
        backend = place.backend()
        await backend.error_queue.push(error("a"))
        envelope, _ = await backend.error_queue.pop()
        assert envelope is not None

        with Monitor(place.server) as monitor:
            await backend.error_queue.replace(envelope, {"n": 2}, backend.queue)
            names = set(monitor.names(place.group))

        assert names <= {"EVALSHA", "EVAL"}
        assert place.items() == [{"n": 2}]
        assert (place.errors(), place.leases()) == ({}, {})

    async def test_an_error_can_go_back_with_a_delay(self, place: ErrorPlace) -> None:
        backend = place.backend()
        await backend.error_queue.push(error("a"))
        envelope, _ = await backend.error_queue.pop()
        assert envelope is not None

        await backend.error_queue.replace(envelope, {"n": 2, "delay": 5}, backend.queue)

        assert await backend.queue.stats() == {"available": 0, "in_flight": 0, "delayed": 1}

    async def test_an_error_that_is_leased_no_more_goes_nowhere(self, place: ErrorPlace) -> None:
        backend, other = place.backend(), place.error_queue()
        await backend.error_queue.push(error("a"))
        envelope, _ = await backend.error_queue.pop()
        assert envelope is not None
        place.clock.advance(LEASE)
        await other.pop()
        envelope.lease_end_time += 1

        with pytest.raises(LeaseLost):
            await backend.error_queue.replace(envelope, {"n": 2}, backend.queue)

        assert place.items() == []
        assert list(place.errors()) == ["a"]


class TestLostAnswers:
    @pytest.fixture(autouse=True)
    def slow_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may take longer than usual until a lost answer is noticed."""
        monkeypatch.setattr(_commands, "_NO_REPEAT_AFTER_SECONDS", DEADLINE_SECONDS)

    @pytest.mark.parametrize("times", [1, 2])
    @pytest.mark.parametrize("verb", ["complete", "release", "touch", "replace"])
    async def test_a_verb_whose_answer_was_lost_is_repeated_and_has_worked(
        self, place: ErrorPlace, wire: Wire, verb: str, times: int
    ) -> None:
        backend = place.backend(wire.url)
        queue = backend.error_queue
        await queue.push(error("a"))
        envelope, _ = await queue.pop()
        assert envelope is not None
        # The scripts are known, so that each try is one EVALSHA.
        await queue.push(error("warm"))
        warm, _ = await queue.pop()
        assert warm is not None
        await queue.complete(warm)
        wire.lose_reply_to(b"EVALSHA", times)

        if verb == "replace":
            await queue.replace(envelope, {"n": 2}, backend.queue)
        else:
            await getattr(queue, verb)(envelope)

        assert list(place.errors()) == ([] if verb in ("complete", "replace") else ["a"])
        assert place.items() == ([{"n": 2}] if verb == "replace" else [])

    async def test_a_complete_that_failed_can_be_called_again(
        self, place: ErrorPlace, wire: Wire
    ) -> None:
        queue = place.error_queue(wire.url)
        await queue.push(error("a"))
        envelope, _ = await queue.pop()
        assert envelope is not None
        wire.lose_reply_to(b"remove", 3)
        with pytest.raises(BackendUnavailable):
            await queue.complete(envelope)
        assert place.errors() == {}

        await queue.complete(envelope)

    async def test_a_lease_whose_touch_failed_is_still_good(
        self, place: ErrorPlace, wire: Wire
    ) -> None:
        queue = place.error_queue(wire.url)
        await queue.push(error("a"))
        envelope, _ = await queue.pop()
        assert envelope is not None
        wire.lose_reply_to(b"EVALSHA", 3)
        with pytest.raises(BackendUnavailable):
            await queue.touch(envelope, 900)
        assert place.leases() == {"a": place.clock.time() + 900}

        await queue.touch(envelope, 950)
        await queue.complete(envelope)

        assert place.errors() == {}

    async def test_an_error_leased_to_nobody_by_a_lost_answer_comes_after_the_lease(
        self, place: ErrorPlace, wire: Wire
    ) -> None:
        queue = place.error_queue(wire.url)
        await queue.push(error("a"))
        await queue.stats()
        wire.lose_reply_to(b"EVALSHA")
        with pytest.raises(BackendUnavailable):
            await queue.pop()

        place.clock.advance(LEASE)

        assert (await queue.pop())[1] == error("a")
