"""What the Redis backend keeps in Redis, and what it does when others, or connections, do not.

Whatever is true of every backend is in the conformance suite. Here are the keys, the bytes, and the
numbered points of Dockets' protocol.
"""

import asyncio
import json
import multiprocessing
import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from dockets_place import LEASE, ODD, UNREADABLE, Monitor, Place, check_kept, envelope, is_blocked
from redis_proxy import Wire, wire_to
from redis_server import RedisServer, start_redis, unique_group
from redis_topologies import start_cluster

from deferrable.aio.backend import dockets
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.dockets import DocketsBackendFactory
from deferrable.aio.backend.dockets._consumer import Consumer
from deferrable.aio.backend.dockets._wire import Entry
from deferrable.aio.queue import Queue
from deferrable.errors import BackendError, BackendUnavailable, InvalidOptions, LeaseLost
from deferrable.testing import MovingClock, wait_until

pytestmark = pytest.mark.anyio

LONG = 1000.0
"""What nobody waits for: a pop that returns sooner was ended by something else."""


@pytest.fixture
async def place(redis_server: RedisServer) -> AsyncIterator[Place]:
    place = Place(redis_server)
    yield place
    await place.close()


@pytest.fixture
async def wire(redis_server: RedisServer) -> AsyncIterator[Wire]:
    async with wire_to(redis_server.port) as wire:
        yield wire


class TestPush:
    async def test_an_envelope_is_what_dockets_writes(self, place: Place) -> None:
        await place.queue().push({"a": "\u00e9"})

        (raw,) = place.listed()
        now = place.clock.time()
        assert raw.isascii()
        assert json.loads(raw) == {
            "first_ts": now,
            "ts": now,
            "item": {"a": "\u00e9"},
            "v": 1,
            "ttl": None,
            "attempts": 0,
            "max_attempts": 3,
            "error_classes": "N.",
        }

    @pytest.mark.parametrize("delay", [0, 0.0, None])
    async def test_an_item_without_delay_goes_straight_to_the_list(
        self, place: Place, delay: float | None
    ) -> None:
        await place.queue().push({"delay": delay})

        assert place.items() == [{"delay": delay}]
        assert not place.redis.exists(place.keys.delayed, place.keys.payload)

    async def test_a_delayed_item_waits_under_one_id_in_two_keys(self, place: Place) -> None:
        await place.queue().push({"delay": 7})

        ((member, due_time),) = place.redis.zrange(place.keys.delayed, 0, -1, withscores=True)
        payload = place.redis.hgetall(place.keys.payload)
        assert due_time == place.clock.time() + 7
        assert list(payload) == [member]
        assert json.loads(payload[member])["item"] == {"delay": 7}
        assert str(uuid.UUID(member.decode())) == member.decode()

    async def test_the_servers_clock_says_when_a_delay_ends(self, place: Place) -> None:
        await place.queue(clock=None).push({"delay": 100})

        ((_, due_time),) = place.redis.zrange(place.keys.delayed, 0, -1, withscores=True)
        seconds, microseconds = place.redis.time()
        assert due_time == pytest.approx(seconds + microseconds / 1e6 + 100, abs=5)

    async def test_many_items_are_one_command(self, place: Place) -> None:
        queue = place.queue()
        with Monitor(place.server) as monitor:
            await queue.push_batch([{"n": number} for number in range(300)])

            assert monitor.names(place.group) == ["LPUSH"]
        assert place.items() == [{"n": number} for number in range(300)]

    async def test_ten_thousand_items_keep_their_order(self, place: Place) -> None:
        queue = place.queue()
        half = [{"n": number} for number in range(5000)]
        late = [{"n": number, "delay": 1 + number / 10_000} for number in range(5000, 10_000)]

        await queue.push_batch([*half, *late])
        place.clock.advance(3)
        popped = await queue.pop_batch(10_000)

        assert [item["n"] for _, item in popped] == list(range(10_000))
        assert await queue.complete_batch([each for each, _ in popped[:2]])
        assert (await queue.stats())["in_flight"] == 9_998


class TestPointOneComplete:
    async def test_complete_removes_the_very_bytes_that_were_popped(self, place: Place) -> None:
        queue = place.queue()
        place.put(envelope(ODD), envelope('{"n":2}'), envelope('{"n":3}'))
        first, second, third = [each for each, _ in await queue.pop_batch(3)]

        await queue.complete(second)
        after_second = place.in_flight()
        await queue.complete(first)

        assert after_second == [envelope(ODD).encode(), envelope('{"n":3}').encode()]
        assert place.in_flight() == [envelope('{"n":3}').encode()]
        await queue.complete(third)

    async def test_what_was_flushed_is_lost_without_asking(self, place: Place) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        held, _ = await queue.pop()
        assert held is not None
        await queue.flush()

        with Monitor(place.server) as monitor:
            with pytest.raises(LeaseLost):
                await queue.complete(held)

            assert monitor.names(place.group) == []

    async def test_one_of_two_deliveries_of_equal_bytes_is_lost_alone(self, place: Place) -> None:
        queue = place.queue()
        place.put(envelope(), envelope())
        first, second = [each for each, _ in await queue.pop_batch(2)]
        await queue.complete(first)

        with pytest.raises(LeaseLost):
            await queue.complete(first)

        await queue.complete(second)
        assert await queue.stats() == {"available": 0, "in_flight": 0, "delayed": 0}

    async def test_releasing_one_of_two_deliveries_of_equal_bytes_keeps_the_other(
        self, place: Place
    ) -> None:
        queue = place.queue()
        place.put(envelope(), envelope())
        first, second = [each for each, _ in await queue.pop_batch(2)]

        await queue.release(first)

        assert (len(place.in_flight()), len(place.listed())) == (1, 1)
        await queue.release(second)
        assert (len(place.in_flight()), len(place.listed())) == (0, 2)


class TestPointTwoConsumer:
    async def test_a_producer_is_no_worker(self, place: Place) -> None:
        await place.queue().push({})

        assert place.workers() == set()

    async def test_a_consumer_joins_with_a_heartbeat_when_it_first_pops(self, place: Place) -> None:
        await place.queue(clock=None).pop()

        name = place.worker()
        assert place.redis.get(place.keys.active(name)) == b"1"
        assert LEASE * 1000 - 5000 < place.redis.pttl(place.keys.active(name)) <= LEASE * 1000

    async def test_two_queue_objects_are_two_consumers(self, place: Place) -> None:
        await place.queue().pop()
        await place.queue().pop()

        assert len(place.workers()) == 2

    async def test_one_queue_object_is_one_consumer_on_all_loops(self, place: Place) -> None:
        queue = place.queue()
        await queue.push_batch([{"n": 1}, {"n": 2}])
        _, here = await queue.pop()
        elsewhere: list[Any] = []
        thread = threading.Thread(target=lambda: elsewhere.append(asyncio.run(queue.pop())))
        thread.start()
        await asyncio.to_thread(thread.join)

        envelope, there = elsewhere[0]

        assert (here, there) == ({"n": 1}, {"n": 2})
        assert len(place.in_flight()) == 2
        await queue.complete(envelope)
        assert len(place.in_flight()) == 1

    async def test_a_pop_renews_its_heartbeat_in_the_write_in_which_it_blocks(
        self, place: Place, wire: Wire
    ) -> None:
        queue = place.queue(wire.url, clock=None, wait_time=0.2, timeout=LEASE)

        with Monitor(place.server) as monitor:
            await queue.pop()
            names = monitor.names(place.group)

        start = names.index("BLMOVE")
        assert names[start - 1] == "EVAL"

    async def test_a_wait_is_at_most_a_third_of_the_lease(self, place: Place) -> None:
        queue = place.queue(clock=None, wait_time=0.5, timeout=0.3)

        with Monitor(place.server) as monitor:
            await queue.pop()
            commands = monitor.commands(place.group)

        waits = [float(command[-1]) for command in commands if command[0] == "BLMOVE"]
        lives = [int(command[-2]) for command in commands if command[0] == "EVAL"]
        assert waits
        assert max(waits) <= 0.1
        # What comes at the very end of the wait is still held for a whole lease.
        assert all(
            life >= 300 + round(1000 * wait) for life, wait in zip(lives, waits, strict=True)
        )

    async def test_a_pop_that_does_not_wait_never_blocks(self, place: Place) -> None:
        queue = place.queue(wait_time=0)

        with Monitor(place.server) as monitor:
            await queue.pop()
            await queue.push({})
            await queue.pop_batch(5)

            assert "BLMOVE" not in monitor.names(place.group)

    async def test_the_heartbeat_lasts_as_long_as_anything_is_held(self, place: Place) -> None:
        queue = place.queue(clock=None)
        await queue.push({})
        envelope, _ = await queue.pop()
        assert envelope is not None

        await queue.touch(envelope, 1000)
        after_touch = place.redis.pttl(place.keys.active(place.worker()))
        await queue.pop()
        after_pop = place.redis.pttl(place.keys.active(place.worker()))
        await queue.complete(envelope)
        await queue.pop()
        after_all = place.redis.pttl(place.keys.active(place.worker()))

        assert after_touch > 990_000
        assert after_pop > 990_000
        assert after_all <= LEASE * 1000

    def test_a_forked_child_is_a_consumer_of_its_own_and_holds_nothing(
        self, redis_server: RedisServer
    ) -> None:
        place = Place(redis_server)
        queue = place.queue()
        place.put(envelope(), envelope())
        envelope_of_parent, _ = asyncio.run(queue.pop())

        def in_child() -> None:
            async def use() -> int:
                try:
                    await queue.complete(envelope_of_parent)
                except LeaseLost:
                    _, item = await queue.pop()
                    return 0 if item == {"n": 1} else 2
                return 1

            os._exit(asyncio.new_event_loop().run_until_complete(use()))

        child = multiprocessing.get_context("fork").Process(target=in_child)
        child.start()
        child.join()

        assert child.exitcode == 0
        assert len(place.workers()) == 2
        asyncio.run(queue.complete(envelope_of_parent))
        asyncio.run(place.close())

    async def test_closing_a_consumer_that_holds_nothing_takes_it_off_the_workers(
        self, place: Place
    ) -> None:
        idle, busy = place.queue(), place.queue()
        await idle.push({})
        await busy.pop()
        holder = place.worker()
        await idle.pop()

        await idle.close()
        await busy.close()

        assert place.workers() == {holder}
        assert not [
            key
            for key in place.redis.scan_iter(f"*{place.group}*.active")
            if holder.encode() not in key
        ]

    async def test_what_is_held_can_be_settled_after_closing(self, place: Place) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        held, _ = await queue.pop()
        assert held is not None

        await queue.close()
        await queue.complete(held)

        assert place.in_flight() == []

    async def test_closing_a_consumer_whose_list_is_not_empty_leaves_it_to_be_reclaimed(
        self, place: Place
    ) -> None:
        queue = place.queue()
        await queue.pop()
        name = place.worker()
        place.redis.lpush(place.keys.working(name), envelope())

        await queue.close()
        place.kill(name)

        assert (await place.queue().pop())[1] == {"n": 1}


class TestPointThreeLeases:
    async def test_an_item_past_its_end_goes_to_the_back_counted_and_otherwise_unchanged(
        self, place: Place
    ) -> None:
        queue = place.queue()
        place.put(envelope(ODD, attempts=2, extra={"b": 1}), envelope('{"n":2}'))
        stale, _ = await queue.pop()
        assert stale is not None

        place.clock.advance(LEASE)
        _, other = await queue.pop()

        assert other == {"n": 2}
        (raw,) = place.listed()
        assert ODD.encode() in raw
        fields = Entry.read(raw).fields
        assert fields["attempts"] == "3"
        assert json.loads(fields["ts"]) == place.clock.time()
        assert fields["extra"] == '{"b": 1}'

    async def test_an_item_held_for_the_maximum_comes_back_although_it_is_touched(
        self, place: Place
    ) -> None:
        queue = place.queue(max_lease_seconds=LEASE + 10)
        await queue.push({"n": 1})
        envelope, _ = await queue.pop()
        assert envelope is not None

        place.clock.advance(LEASE - 1)
        await queue.touch(envelope, 100)
        place.clock.advance(10)
        kept = place.items()
        place.clock.advance(1)
        with pytest.raises(LeaseLost):
            await queue.touch(envelope, 100)

        assert kept == []
        assert place.items() == [{"n": 1}]
        with pytest.raises(LeaseLost):
            await queue.complete(envelope)

    async def test_a_short_touch_does_not_have_the_item_taken_back_early(
        self, place: Place
    ) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        held, _ = await queue.pop()
        assert held is not None

        await queue.touch(held, LEASE + 100)
        await queue.touch(held, 1)
        place.clock.advance(LEASE + 50)

        assert await queue.pop() == (None, None)
        await queue.complete(held)

    async def test_touches_at_once_are_one_script(self, place: Place) -> None:
        queue = place.queue()
        await queue.push_batch([{"n": number} for number in range(50)])
        envelopes = [each for each, _ in await queue.pop_batch(50)]
        await queue.touch(envelopes[0], 1)  # the server knows the script from now on

        with Monitor(place.server) as monitor:
            await asyncio.gather(*(queue.touch(each, 400) for each in envelopes))
            names = monitor.names(place.group)

        assert len(names) <= 2
        assert all(each.lease_end_time == place.clock.time() + 400 for each in envelopes)

    async def test_who_was_reclaimed_has_lost_everything_and_goes_on_under_a_new_id(
        self, place: Place
    ) -> None:
        queue, other = place.queue(), place.queue()
        await queue.push_batch([{"n": 1}, {"n": 2}])
        first, second = [each for each, _ in await queue.pop_batch(2)]
        name = place.worker()
        place.kill(name)
        ((_, taken),) = await other.pop_batch(1)

        with pytest.raises(LeaseLost):
            await queue.touch(first)
        with pytest.raises(LeaseLost):
            await queue.complete(second)
        _, again = await queue.pop()

        assert (taken, again) == ({"n": 1}, {"n": 2})
        assert name not in place.workers()
        assert len(place.workers()) == 2

    async def test_who_was_reclaimed_finds_out_when_it_pops(self, place: Place) -> None:
        queue, other = place.queue(), place.queue()
        await queue.push({"n": 1})
        envelope, _ = await queue.pop()
        assert envelope is not None
        name = place.worker()
        place.kill(name)
        await other.pop()
        await queue.push({"n": 2})

        _, item = await queue.pop()

        assert item == {"n": 2}
        assert name not in place.workers()
        with pytest.raises(LeaseLost):
            await queue.complete(envelope)

    async def test_dead_consumers_items_go_to_the_back_oldest_first_counted_and_unchanged(
        self, place: Place
    ) -> None:
        place.put(envelope('{"n":0}'))
        dead = place.dead_worker(envelope(ODD, attempts=1), envelope('{"n":2}'))

        await place.queue().pop()

        first, second = place.listed()
        assert ODD.encode() in first
        assert Entry.read(first).attempts == 2
        assert json.loads(second) == {"item": {"n": 2}, "attempts": 1, "ts": place.clock.time()}
        assert dead not in place.workers()
        assert place.in_flight(dead) == []

    async def test_a_dead_consumer_that_held_nothing_is_forgotten(self, place: Place) -> None:
        dead = place.dead_worker()

        await place.queue().pop()

        assert dead not in place.workers()

    async def test_a_consumer_with_a_heartbeat_is_left_alone(self, place: Place) -> None:
        alive = place.dead_worker(envelope())
        place.redis.set(place.keys.active(alive), "1", px=60_000)

        assert await place.queue(clock=None).pop() == (None, None)

        assert place.in_flight(alive) == [envelope().encode()]
        assert alive in place.workers()

    async def test_a_list_of_nobody_among_the_workers_is_left_alone(self, place: Place) -> None:
        name = place.dead_worker(envelope())
        place.redis.srem(place.keys.workers, name)
        queue = place.queue()

        await queue.pop()
        await queue.flush()

        assert place.in_flight(name) == [envelope().encode()]

    async def test_a_long_list_of_a_dead_consumer_comes_back_whole(self, place: Place) -> None:
        place.dead_worker(*[envelope(f'{{"n":{number}}}') for number in range(250)])

        popped = await place.queue().pop_batch(300)

        assert [item["n"] for _, item in popped] == list(range(250))

    @pytest.mark.parametrize("change", ["it lives again", "another one reclaimed it"])
    async def test_who_is_not_dead_any_more_when_it_comes_to_it_is_not_reclaimed(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        dead = place.dead_worker(envelope())
        queue = place.queue()
        read = queue._commands.oldest

        async def read_and_change(consumer_id: str, count: int) -> list[bytes]:
            if change == "it lives again":
                place.redis.set(place.keys.active(dead), "1")
            else:
                place.redis.srem(place.keys.workers, dead)
            return await read(consumer_id, count)

        monkeypatch.setattr(queue._commands, "oldest", read_and_change)

        assert await queue.pop() == (None, None)

        assert place.in_flight(dead) == [envelope().encode()]

    async def test_many_reclaimers_at_once_bring_each_item_back_once(self, place: Place) -> None:
        for worker in range(5):
            place.dead_worker(*[envelope(f'{{"n":{worker * 10 + n}}}') for n in range(10)])
        queues = [place.queue() for _ in range(8)]

        popped = await asyncio.gather(*(queue.pop_batch(50) for queue in queues))
        popped += await asyncio.gather(*(queue.pop_batch(50) for queue in queues))

        assert sorted(item["n"] for batch in popped for _, item in batch) == list(range(50))

    async def test_a_consumer_that_only_touches_reclaims_the_dead_too(self, place: Place) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        envelope_held, _ = await queue.pop()
        assert envelope_held is not None
        place.dead_worker(envelope('{"n":2}'))

        place.clock.advance(10)
        await queue.touch(envelope_held)

        assert place.items() == [{"n": 2}]

    async def test_the_dead_are_looked_for_every_few_seconds_and_not_at_each_pop(
        self, place: Place
    ) -> None:
        queue = place.queue()
        await queue.pop()
        place.dead_worker(envelope())

        at_once = await queue.pop()
        place.clock.advance(5)
        later = await queue.pop()

        assert at_once == (None, None)
        assert later[1] == {"n": 1}

    async def test_a_look_in_passing_that_fails_is_logged_once_until_it_works_again(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        held, _ = await queue.pop()
        assert held is not None

        for is_broken in (True, True, False, True):
            name = place.dead_worker(name="dead")
            if is_broken:
                place.redis.set(place.keys.working(name), "no list")
            else:
                place.redis.delete(place.keys.working(name))
            place.clock.advance(5)
            await queue.touch(held)

        logged = [record.getMessage().split(" look")[0] for record in caplog.records]
        assert logged == ["cannot", "can", "cannot"]

    async def test_a_counted_release_keeps_the_text_of_the_item(self, place: Place) -> None:
        queue = place.queue()
        place.put(envelope(ODD))
        held, _ = await queue.pop()
        assert held is not None

        await queue.release(held, is_counted=True)

        (raw,) = place.listed()
        assert ODD.encode() in raw
        assert Entry.read(raw).attempts == 1

    async def test_a_release_keeps_every_byte(self, place: Place) -> None:
        queue = place.queue()
        place.put(envelope(ODD, attempts=4))
        held, _ = await queue.pop()
        assert held is not None

        await queue.release(held)

        assert place.listed() == [envelope(ODD, attempts=4).encode()]

    async def test_a_release_with_a_delay_is_one_step(self, place: Place) -> None:
        queue = place.queue()
        place.put(envelope(ODD))
        held, _ = await queue.pop()
        assert held is not None

        with Monitor(place.server) as monitor:
            await queue.release(held, 5)
            names = monitor.names(place.group)

        assert names == ["EVALSHA"] or names == ["EVALSHA", "EVAL"]
        assert place.in_flight() == []
        assert list(place.redis.hvals(place.keys.payload)) == [envelope(ODD).encode()]


class TestPointFourTooManyDeliveries:
    async def test_an_item_that_kills_its_consumers_goes_to_the_errors_saying_so(
        self, place: Place
    ) -> None:
        place.dead_worker(envelope(ODD, attempts=10))

        assert await place.queue().pop() == (None, None)

        ((error_id, raw),) = place.redis.hgetall(place.keys.errors).items()
        assert b'"big":123456789012345678901234567890' in raw
        assert b'"f":1.10' in raw
        item = json.loads(raw)
        assert item["error"]["id"] == error_id.decode()
        assert item["error"]["error_type"] == "TooManyDeliveries"
        assert "11 times" in item["error"]["error_text"]
        assert item["error"]["ts"] == place.clock.time()

    async def test_an_error_that_the_item_had_before_is_replaced(self, place: Place) -> None:
        place.dead_worker(envelope('{"n":1,"error":{"id":"old"}}', attempts=10))

        await place.queue().pop()

        ((error_id, item),) = place.errors().items()
        assert item["error"]["id"] == error_id != "old"
        assert list(item) == ["n", "error"]

    async def test_max_redeliveries_is_the_backends_own(self, place: Place) -> None:
        place.dead_worker(envelope('{"n":1}'))

        await place.queue(max_redeliveries=0).pop()

        assert [item["n"] for item in place.errors().values()] == [1]


class TestPointFiveOrphans:
    async def test_an_item_that_nobody_runs_is_put_back_after_the_second_look(
        self, place: Place
    ) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        await queue.pop()
        place.redis.lpush(place.keys.working(place.worker()), envelope('{"n":2}'))

        place.clock.advance(5)
        first_look = await queue.pop()
        place.clock.advance(5)
        _, item = await queue.pop()

        assert first_look == (None, None)
        assert item == {"n": 2}

    async def test_a_pop_whose_answer_was_lost_loses_nothing(
        self, place: Place, wire: Wire
    ) -> None:
        queue = place.queue(wire.url)
        await queue.pop()
        await queue.push({"n": 1})
        wire.lose_reply_to(b"EVALSHA")

        with pytest.raises(BackendUnavailable):
            await queue.pop()
        stuck = place.in_flight()
        await wait_until(lambda: self._pops(place, queue, {"n": 1}), "the item came back")

        assert len(stuck) == 1

    async def _pops(self, place: Place, queue: Queue, item: Any) -> bool:
        place.clock.advance(5)
        await asyncio.sleep(0.05)  # a broken pop is over after a second of real time
        return (await queue.pop())[1] == item

    async def test_a_wait_whose_answer_was_lost_loses_nothing(
        self, place: Place, wire: Wire
    ) -> None:
        queue = place.queue(wire.url, wait_time=1)
        popping = asyncio.create_task(queue.pop())
        await wait_until(lambda: is_blocked(place), "the pop waits")
        wire.lose_next_reply()

        await place.queue().push({"n": 1})
        with pytest.raises(BackendUnavailable):
            await popping

        await wait_until(lambda: self._pops(place, queue, {"n": 1}), "the item came back")

    def test_a_loop_that_is_shut_down_in_a_pop_loses_nothing(
        self, redis_server: RedisServer
    ) -> None:
        place = Place(redis_server)
        queue = place.queue(clock=None, wait_time=1)

        async def leave_a_pop_behind() -> None:
            popping = asyncio.create_task(queue._pop_batch(1))
            await wait_until(lambda: is_blocked(place), "the pop waits")
            place.put(envelope())
            popping.cancel()

        async def pop_all() -> list[Any]:
            found: list[Any] = []

            async def has_come() -> bool:
                queue._upkeep.hurry()
                found.extend(await queue.pop_batch(5))
                return bool(found)

            await wait_until(has_come, "the item came back")
            await place.close()
            return [item for _, item in found]

        asyncio.run(leave_a_pop_behind())

        assert asyncio.run(pop_all()) == [{"n": 1}]

    async def test_a_push_is_not_sent_again_when_its_answer_was_lost(
        self, place: Place, wire: Wire
    ) -> None:
        queue = place.queue(wire.url)
        wire.lose_reply_to(b"LPUSH")

        with pytest.raises(BackendUnavailable):
            await queue.push({"n": 1})

        assert place.items() == [{"n": 1}]

    @pytest.mark.parametrize("times", [1, 2])
    async def test_a_complete_whose_answer_was_lost_is_repeated_and_has_worked(
        self, place: Place, wire: Wire, times: int
    ) -> None:
        queue = place.queue(wire.url)
        await queue.push({"n": 1})
        held, _ = await queue.pop()
        assert held is not None
        wire.lose_reply_to(b"EVALSHA", times)

        await queue.complete(held)

        assert place.in_flight() == []

    async def test_a_complete_that_failed_can_be_called_again(
        self, place: Place, wire: Wire
    ) -> None:
        queue = place.queue(wire.url)
        await queue.push({"n": 1})
        held, _ = await queue.pop()
        assert held is not None
        wire.lose_reply_to(b"EVALSHA", 3)
        with pytest.raises(BackendUnavailable):
            await queue.complete(held)

        await queue.complete(held)

        assert place.in_flight() == []

    async def test_a_complete_that_finds_nothing_at_the_first_try_has_lost_its_lease(
        self, place: Place
    ) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        held, _ = await queue.pop()
        assert held is not None
        place.redis.delete(place.keys.working(place.worker()))

        with pytest.raises(LeaseLost):
            await queue.complete(held)

    async def test_a_repeated_complete_of_who_was_reclaimed_has_lost_its_lease(
        self, place: Place, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue = place.queue(wire.url)
        await queue.push({"n": 1})
        held, _ = await queue.pop()
        assert held is not None
        name = place.worker()
        wire.lose_reply_to(b"EVALSHA", 3)
        with pytest.raises(BackendUnavailable):
            await queue.complete(held)
        place.redis.srem(place.keys.workers, name)

        with pytest.raises(LeaseLost):
            await queue.complete(held)

    @pytest.mark.parametrize("target", ["queue", "error_queue"])
    async def test_a_replace_whose_answer_was_lost_is_repeated_and_pushes_once(
        self, place: Place, wire: Wire, target: str
    ) -> None:
        backend = place.backend(wire.url)
        await backend.queue.push({"n": 1})
        held, _ = await backend.queue.pop()
        assert held is not None
        wire.lose_reply_to(b'"n":2')

        await backend.queue.replace(held, {"n": 2, "error": {"id": "e"}}, getattr(backend, target))

        assert place.in_flight() == []
        assert len(place.items()) + len(place.errors()) == 1

    @pytest.mark.parametrize("verb", ["touch", "release"])
    async def test_a_verb_whose_answer_was_lost_is_repeated(
        self, place: Place, wire: Wire, verb: str
    ) -> None:
        queue = place.queue(wire.url)
        await queue.push({"n": 1})
        held, _ = await queue.pop()
        wire.lose_reply_to(b"EVALSHA")

        await getattr(queue, verb)(held)

        assert place.items() == ([{"n": 1}] if verb == "release" else [])

    async def test_a_replace_by_who_was_reclaimed_pushes_nothing(self, place: Place) -> None:
        backend, other = place.backend(), place.queue()
        await backend.queue.push({"n": 1})
        held, _ = await backend.queue.pop()
        assert held is not None
        place.kill(place.worker())
        await other.pop()

        with pytest.raises(LeaseLost):
            await backend.queue.replace(held, {"n": 2})
        with pytest.raises(LeaseLost):
            await backend.queue.replace(held, {"n": 2, "error": {"id": "e"}}, backend.error_queue)

        assert place.items() == []
        assert place.errors() == {}

    async def test_a_replacement_with_a_delay_is_delayed(self, place: Place) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        held, _ = await queue.pop()
        assert held is not None

        await queue.replace(held, {"n": 2, "delay": 9})

        assert await queue.stats() == {"available": 0, "in_flight": 0, "delayed": 1}

    async def test_a_replacement_elsewhere_is_pushed_first(self, place: Place) -> None:
        other_place = Place(place.server)
        backend, other = place.backend(), other_place.backend()
        await backend.queue.push({"n": 1})
        held, _ = await backend.queue.pop()
        assert held is not None

        await backend.queue.replace(held, {"n": 2}, other.queue)

        assert other_place.items() == [{"n": 2}]
        assert place.in_flight() == []
        await other_place.close()

    async def test_a_long_wait_is_ended_at_once_for_who_gives_up(self, place: Place) -> None:
        queue = place.queue(clock=None, wait_time=LONG, timeout=LONG)
        popping = asyncio.create_task(queue.pop())
        await wait_until(lambda: is_blocked(place), "the pop waits")

        popping.cancel()
        await wait_until(popping.done, "the pop has ended")

        assert popping.cancelled()
        await wait_until(lambda: not is_blocked(place), "the server has noticed")


class TestConsumerState:
    """The state of a consumer without Redis: what is an orphan, and what only looks like one."""

    @pytest.fixture
    def consumer(self) -> Consumer:
        return Consumer()

    def test_bytes_are_orphans_at_the_second_look(self, consumer: Consumer) -> None:
        consumer.end_pop(consumer.begin_pop())

        assert consumer.find_orphans([b"a", b"b", b"a"], 0) == []
        assert consumer.find_orphans([b"a", b"b", b"a"], 0) == [b"a", b"b", b"a"]

    def test_what_is_held_is_no_orphan_and_its_equal_is(self, consumer: Consumer) -> None:
        pop = consumer.begin_pop()
        consumer.hold(pop, [b"a"], 9, 9)
        consumer.end_pop(pop)

        looks = [consumer.find_orphans([b"a", b"a"], 0) for _ in range(2)]

        assert looks == [[], [b"a"]]

    def test_what_a_pop_under_way_may_have_taken_is_no_orphan(self, consumer: Consumer) -> None:
        pop = consumer.begin_pop()

        looks = [consumer.find_orphans([b"a"], 0) for _ in range(5)]
        consumer.end_pop(pop)

        assert looks == [[]] * 5
        assert consumer.find_orphans([b"a"], 0) == [b"a"]

    def test_a_pop_that_began_after_the_first_look_does_not_protect(
        self, consumer: Consumer
    ) -> None:
        consumer.end_pop(consumer.begin_pop())
        consumer.find_orphans([b"a"], 0)
        consumer.begin_pop()

        assert consumer.find_orphans([b"a"], 0) == [b"a"]

    def test_a_broken_pop_protects_until_the_server_has_given_up(self, consumer: Consumer) -> None:
        pop = consumer.begin_pop()
        consumer.break_pop(pop, end_time=10)

        looks = [consumer.find_orphans([b"a"], now) for now in (1, 9, 10)]

        assert looks == [[], [], [b"a"]]

    def test_bytes_that_were_held_in_between_are_seen_again(self, consumer: Consumer) -> None:
        pop = consumer.begin_pop()
        consumer.find_orphans([b"a"], 0)
        (held,) = consumer.hold(pop, [b"a"], 9, 9) or []
        consumer.end_pop(pop)
        consumer.drop([held])

        assert consumer.find_orphans([b"a"], 0) == []

    def test_bytes_that_are_gone_at_the_second_look_are_forgotten(self, consumer: Consumer) -> None:
        consumer.end_pop(consumer.begin_pop())
        consumer.find_orphans([b"a"], 0)
        consumer.find_orphans([], 0)

        assert consumer.find_orphans([b"a"], 0) == []

    def test_a_pop_of_an_id_that_was_lost_meanwhile_holds_nothing(self, consumer: Consumer) -> None:
        pop = consumer.begin_pop()
        consumer.lose(pop.consumer_id)

        assert consumer.hold(pop, [b"a"], 9, 9) is None
        assert consumer.begin_pop().consumer_id != pop.consumer_id

    def test_an_id_is_not_given_up_while_a_pop_is_under_way(self, consumer: Consumer) -> None:
        pop = consumer.begin_pop()

        assert consumer.resign(0) is None
        consumer.end_pop(pop)
        assert consumer.resign(0) == pop.consumer_id

    def test_an_id_is_given_up_once_the_server_has_given_up_a_broken_pop(
        self, consumer: Consumer
    ) -> None:
        pop = consumer.begin_pop()
        consumer.break_pop(pop, end_time=10)

        assert consumer.resign(9) is None
        assert consumer.resign(10) == pop.consumer_id

    def test_one_delivery_has_one_settlement_under_way(self, consumer: Consumer) -> None:
        (held,) = consumer.hold(consumer.begin_pop(), [b"a"], 9, 9) or []

        assert consumer.claim([held]) == [held]
        assert consumer.claim([held]) == [None]
        assert consumer.claim_expired(10) == []
        consumer.unclaim([held], may_be_settled=False)
        assert consumer.claim_expired(10) == [held]


class TestPointSixDueItems:
    async def test_a_moved_clock_ends_a_wait_for_what_is_due_then(self, place: Place) -> None:
        queue = place.queue(wait_time=60)
        await queue.push({"n": 1, "delay": 9})
        popping = asyncio.create_task(queue.pop())
        await wait_until(lambda: is_blocked(place), "the pop waits")

        place.clock.advance(9)

        assert (await asyncio.wait_for(popping, 30))[1] == {"n": 1, "delay": 9}

    async def test_a_waiting_pop_hands_over_the_first_and_the_next_takes_the_rest(
        self, place: Place
    ) -> None:
        queue = place.queue(wait_time=5)
        popping = asyncio.create_task(queue.pop_batch(9))
        await wait_until(lambda: is_blocked(place), "the pop waits")

        await place.queue().push_batch([{"n": number} for number in range(5)])

        assert [item["n"] for _, item in await popping] == [0]
        assert [item["n"] for _, item in await queue.pop_batch(9)] == [1, 2, 3, 4]

    async def test_a_wait_ends_for_the_next_due_item(self, place: Place) -> None:
        queue = place.queue(clock=None, wait_time=LONG, timeout=LONG)
        start_time = place.time()
        await queue.push({"n": 1, "delay": 0.2})

        with Monitor(place.server) as monitor:
            _, item = await queue.pop()
            commands = monitor.commands(place.group)

        waits = [float(command[-1]) for command in commands if command[0] == "BLMOVE"]
        assert item == {"n": 1, "delay": 0.2}
        assert all(wait <= 0.2 for wait in waits)
        assert place.time() >= start_time + 0.2

    async def test_due_items_move_without_a_limit(self, place: Place) -> None:
        queue = place.queue()
        await queue.push_batch([{"n": number, "delay": 1} for number in range(2300)])
        place.clock.advance(1)

        popped = await queue.pop_batch(2300)

        assert len(popped) == 2300

    async def test_what_is_due_counts_as_available(self, place: Place) -> None:
        queue = place.queue()
        await queue.push_batch([{"delay": 1}, {"delay": 2}, {}])
        place.clock.advance(1)

        counts = await queue.stats()
        assert (counts["available"], counts["delayed"]) == (2, 1)


class TestAgeOfTheOldest:
    async def test_it_counts_from_the_first_push_of_what_is_popped_next(self, place: Place) -> None:
        queue = place.queue()
        now = place.clock.time()
        place.put(envelope(first_ts=now - 7, ts=now - 3), envelope(first_ts=now - 9))

        assert (await queue.stats())["oldest_age_seconds"] == 7

    async def test_an_envelope_without_a_first_push_has_its_last_one(self, place: Place) -> None:
        place.put(envelope(first_ts="?", ts=place.clock.time() - 3))

        assert (await place.queue().stats())["oldest_age_seconds"] == 3

    async def test_a_due_item_is_the_oldest_when_the_list_is_empty(self, place: Place) -> None:
        queue = place.queue()
        await queue.push({"delay": 5})
        before = await queue.stats()
        place.clock.advance(6)

        after = await queue.stats()

        assert "oldest_age_seconds" not in before
        assert after["oldest_age_seconds"] == 6

    async def test_one_pushed_by_a_clock_that_is_ahead_is_new(self, place: Place) -> None:
        place.put(envelope(first_ts=place.clock.time() + 5))

        assert (await place.queue().stats())["oldest_age_seconds"] == 0

    @pytest.mark.parametrize("raw", [*UNREADABLE.values(), envelope()])
    async def test_what_tells_no_moment_has_no_age(self, place: Place, raw: str | bytes) -> None:
        place.put(raw)

        assert await place.queue().stats() == {"available": 1, "in_flight": 0, "delayed": 0}


each_unreadable = pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)


class TestPointSevenUnreadableEntries:
    @each_unreadable
    async def test_in_the_queue_it_goes_to_the_errors_and_the_pop_goes_on(
        self, place: Place, raw: bytes
    ) -> None:
        place.put(raw, envelope('{"n":2}'))

        popped = await place.queue().pop_batch(1)

        assert [item for _, item in popped] == [{"n": 2}]
        check_kept(place, raw)
        assert len(place.in_flight()) == 1

    @each_unreadable
    async def test_it_does_not_end_the_wait_of_a_pop(self, place: Place, raw: bytes) -> None:
        queue = place.queue(wait_time=5)
        popping = asyncio.create_task(queue.pop())
        await wait_until(lambda: is_blocked(place), "the pop waits")

        place.put(raw)
        await wait_until(place.errors, "it was moved to the errors")
        place.put(envelope('{"n":2}'))

        assert (await popping)[1] == {"n": 2}
        check_kept(place, raw)

    @each_unreadable
    async def test_as_a_delayed_payload_it_goes_to_the_errors_and_the_rest_comes(
        self, place: Place, raw: bytes
    ) -> None:
        now = place.clock.time()
        place.redis.zadd(place.keys.delayed, {"bad": now - 2, "good": now - 1})
        place.redis.hset(place.keys.payload, mapping={"bad": raw, "good": envelope()})

        _, item = await place.queue().pop()

        assert item == {"n": 1}
        check_kept(place, raw)
        assert not place.redis.exists(place.keys.delayed, place.keys.payload)

    @each_unreadable
    async def test_of_a_dead_consumer_it_goes_to_the_errors_and_the_rest_comes(
        self, place: Place, raw: bytes
    ) -> None:
        dead = place.dead_worker(raw, envelope())

        _, item = await place.queue().pop()

        assert item == {"n": 1}
        check_kept(place, raw)
        assert dead not in place.workers()

    async def test_a_delayed_item_without_payload_is_noted_and_the_rest_comes(
        self, place: Place
    ) -> None:
        now = place.clock.time()
        place.redis.zadd(place.keys.delayed, {"lonely": now - 2, "good": now - 1})
        place.redis.hset(place.keys.payload, "good", envelope())

        _, item = await place.queue().pop()

        assert item == {"n": 1}
        ((error_id, error),) = place.errors().items()
        assert error["raw"] == "lonely"
        assert error["error"]["id"] == error_id

    async def test_thousands_of_ids_without_payload_do_not_stop_the_queue(
        self, place: Place
    ) -> None:
        now = place.clock.time()
        place.redis.zadd(place.keys.delayed, {f"m{n}": now - 9 for n in range(2500)})
        place.redis.zadd(place.keys.delayed, {"good": now})
        place.redis.hset(place.keys.payload, "good", envelope())

        _, item = await place.queue().pop()

        assert item == {"n": 1}
        assert len(place.errors()) == 2500

    async def test_an_envelope_with_nothing_but_an_item_is_read(self, place: Place) -> None:
        place.put('{"item":{"n":1}}')

        assert (await place.queue().pop())[1] == {"n": 1}

    async def test_attempts_that_are_no_number_count_as_none(self, place: Place) -> None:
        place.dead_worker(envelope(attempts="many"))

        await place.queue().push({})
        await place.queue().pop()

        assert [Entry.read(raw).attempts for raw in place.listed()] == [1]


class TestPointEightCluster:
    async def test_a_group_with_a_tag_lives_on_one_node_of_a_cluster(self) -> None:
        with start_cluster() as cluster:
            for tag in ("{low}", "{high}"):
                clock = MovingClock()
                client = redis.asyncio.RedisCluster.from_url(cluster.url)
                factory = DocketsBackendFactory(client, wait_time=0.05, clock=clock)
                async with factory.create_backend_for_group(f"mail{tag}") as backend:
                    await _exercise(backend, clock)

    def test_a_group_without_a_tag_is_refused_with_advice(self) -> None:
        client = redis.asyncio.RedisCluster(host="localhost", port=1)
        factory = DocketsBackendFactory(client)

        for group in ("mail", None):
            with pytest.raises(InvalidOptions, match="tag"):
                factory.create_backend_for_group(group)

    def test_no_script_makes_the_name_of_a_key(self) -> None:
        scripts = list((Path(dockets.__file__).parents[1] / "_redis" / "lua").glob("dockets_*.lua"))

        for script in scripts:
            assert ".." not in script.read_text().replace("...", "")
        assert scripts


async def _exercise(backend: Backend, clock: MovingClock) -> None:
    """Every verb and every script, once."""
    queue, error_queue = backend.queue, backend.error_queue
    await queue.push_batch([{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}, {"n": 5, "delay": 1}])
    assert (await queue.stats())["available"] == 4
    first, second, third, fourth = [each for each, _ in await queue.pop_batch(4)]
    await queue.touch(first)
    await queue.complete(first)
    await queue.release(second, 2)
    await queue.replace(third, {"n": 6, "delay": 3})
    await queue.replace(fourth, {"n": 7, "error": {"id": "e"}}, error_queue)
    clock.advance(3)
    assert [item["n"] for _, item in await queue.pop_batch(9)] == [5, 2, 6]
    assert await queue.pop() == (None, None)
    held, error = await error_queue.pop()
    assert held is not None
    assert error == {"n": 7, "error": {"id": "e"}}
    await error_queue.touch(held)
    await error_queue.replace(held, {"n": 8}, queue)
    assert await error_queue.stats() == {"available": 0, "in_flight": 0}
    clock.advance(400)
    assert len([*await queue.pop_batch(9), *await queue.pop_batch(9)]) == 4
    await queue.flush()
    await error_queue.flush()
    assert await queue.stats() == {"available": 0, "in_flight": 0, "delayed": 0}


class TestAbsentRedis:
    @pytest.fixture
    def server(self) -> Iterator[RedisServer]:
        with start_redis() as server:
            yield server

    async def test_a_redis_that_is_not_there_at_the_start_is_used_when_it_comes(
        self, server: RedisServer
    ) -> None:
        place = Place(server)
        server.stop()
        queue = place.queue(clock=None, wait_time=1)
        verbs: list[Callable[[], Any]] = [
            queue.pop,
            queue.stats,
            queue.flush,
            lambda: queue.push({"n": 1}),
        ]
        for verb in verbs:
            with pytest.raises(BackendUnavailable, match=str(server.port)):
                await verb()

        server.restart()
        await queue.push({"n": 2})

        assert (await queue.pop())[1] == {"n": 2}
        await place.close()

    async def test_a_redis_that_goes_away_in_a_pop_is_unavailable_soon_and_used_when_it_is_back(
        self, server: RedisServer
    ) -> None:
        place = Place(server)
        queue = place.queue(clock=None, wait_time=LONG, timeout=LONG)
        popping = asyncio.create_task(queue.pop())
        await wait_until(lambda: is_blocked(place), "the pop waits")

        server.kill()
        await wait_until(popping.done, "the pop has ended")
        with pytest.raises(BackendUnavailable):
            await popping
        server.restart()
        await queue.push({"n": 1})

        assert (await queue.pop())[1] == {"n": 1}
        await place.close()

    async def test_what_is_held_can_be_completed_after_the_connection_broke(
        self, place: Place, wire: Wire
    ) -> None:
        queue = place.queue(wire.url)
        await queue.push_batch([{"n": 1}, {"n": 2}])
        first, second = [each for each, _ in await queue.pop_batch(2)]

        wire.cut()
        await asyncio.sleep(0)
        await queue.complete(first)
        wire.cut()
        await queue.complete(second)

        assert place.in_flight() == []
        assert wire.connections >= 2

    async def test_closing_does_not_need_redis(self, server: RedisServer) -> None:
        place = Place(server)
        backend = place.backend(clock=None)
        await backend.queue.pop()

        server.kill()
        await backend.close()
        await backend.close()

    async def test_a_key_of_another_type_is_a_refusal_and_not_an_absence(
        self, place: Place
    ) -> None:
        place.redis.set(place.keys.queue, "text")

        with pytest.raises(BackendError, match="WRONGTYPE") as refusal:
            await place.queue().push({})

        assert not isinstance(refusal.value, BackendUnavailable)


class TestFactory:
    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({"wait_time": -1}, "wait_time"),
            ({"timeout": 0}, "timeout"),
            ({"max_redeliveries": -1}, "max_redeliveries"),
            ({"max_lease_seconds": 0}, "max_lease_seconds"),
        ],
    )
    def test_a_number_out_of_range_is_refused_by_name(
        self, options: dict[str, Any], word: str
    ) -> None:
        with pytest.raises(InvalidOptions, match=word):
            DocketsBackendFactory("redis://localhost", **options)

    def test_making_backends_does_no_io(self) -> None:
        factory = DocketsBackendFactory("redis://127.0.0.1:1")

        backend = factory.create_backend_for_group("mail")

        assert "mail" in repr(backend.queue)

    @pytest.mark.parametrize(
        "make",
        [
            lambda url: url,
            lambda url: redis.Redis.from_url(url),
            lambda url: redis.Redis.from_url(url, decode_responses=True, socket_timeout=0.01),
            lambda url: redis.asyncio.Redis.from_url(url, decode_responses=True, protocol=3),
        ],
    )
    async def test_any_client_will_do_and_is_left_alone(
        self, redis_url: str, make: Callable[[str], Any]
    ) -> None:
        client = make(redis_url)
        factory = DocketsBackendFactory(client, wait_time=0.1)

        async with factory.create_backend_for_group(unique_group()) as backend:
            await backend.queue.push({"n": 1})
            _, item = await backend.queue.pop()
            await backend.queue.flush()

        assert item == {"n": 1}
        pool = getattr(client, "connection_pool", None)
        assert pool is None or not pool._available_connections

    async def test_closing_a_queue_ends_its_waiting_pop_though_others_use_the_connections(
        self, redis_url: str
    ) -> None:
        factory = DocketsBackendFactory(redis_url, wait_time=300)
        one, two = [factory.create_backend_for_group(unique_group()) for _ in range(2)]
        popping = asyncio.create_task(one.queue.pop())
        await two.queue.stats()

        await one.close()

        assert await asyncio.wait_for(popping, 30) == (None, None)
        await two.close()

    async def test_closing_one_backend_leaves_the_others_of_its_factory_at_work(
        self, place: Place
    ) -> None:
        factory = DocketsBackendFactory(place.server.url, wait_time=LONG, timeout=LONG)
        one, two = [factory.create_backend_for_group(unique_group()) for _ in range(2)]
        await one.queue.stats()
        popping = asyncio.create_task(two.queue.pop())
        await wait_until(lambda: is_blocked(place), "the pop waits")

        await one.close()
        await two.queue.push({"n": 1})

        assert (await popping)[1] == {"n": 1}
        await two.queue.flush()
        await two.close()
