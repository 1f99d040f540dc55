"""Plain items: how many a worker takes that has no thread for them."""

from deferrable.aio.worker._kinds import Kinds

PLAIN = {"plain": True, "async": False}


def make(*, is_mixed: bool = True, depth: int = 0) -> Kinds:
    return Kinds(PLAIN.get, is_mixed=is_mixed, depth=depth)


def ask(kinds: Kinds, count: int = 68, room: int = 0, now: float = 0.0) -> int:
    return kinds.to_ask(count, room, now, held=0, takes_back=True)


def probe(kinds: Kinds, *, returned: int | None = None, now: float = 0.0) -> float:
    """Make a probe that finds all that it asks for."""
    popped = ask(kinds, now=now)
    assert popped
    seconds = kinds.begin_return(now, popped, popped if returned is None else returned)
    kinds.end_return()
    return seconds


def test_a_queue_of_async_jobs_is_not_limited() -> None:
    assert ask(make(is_mixed=False)) == 68


def test_at_first_no_more_is_asked_for_than_there_are_threads() -> None:
    assert ask(make(), room=32) == 32


def test_the_fewer_items_are_plain_the_more_are_asked_for() -> None:
    kinds = make()
    for number in range(200):
        kinds.is_plain({"method": "plain" if number % 4 == 0 else "async"})

    assert 16 <= ask(kinds, room=8) <= 68

    for _ in range(200):
        kinds.is_plain({"method": "async"})

    assert (kinds.share, ask(kinds)) == (0, 68)


def test_a_plain_item_limits_a_queue_that_had_none() -> None:
    kinds = make(is_mixed=False)
    for _ in range(100):
        kinds.is_plain({"method": "plain"})

    assert ask(kinds, room=32) == 33


def test_an_item_whose_job_is_not_known_counts_as_async_until_it_has_run() -> None:
    kinds = make(is_mixed=False)
    before = kinds.is_plain({"method": "unknown"})
    kinds.learn({"method": "unknown"})

    assert (before, kinds.is_plain({"method": "unknown"})) == (False, True)
    assert not kinds.is_plain({"method": ["no", "name"]})
    assert not kinds.is_plain({})


def test_probes_get_deeper_at_once_until_the_usual_depth_and_then_pause() -> None:
    kinds = make()
    depths, pauses = [], []
    for _ in range(8):
        depths.append(ask(kinds))
        pauses.append(probe(kinds))

    assert depths == [1, 2, 4, 8, 16, 32, 64, 100]
    assert pauses == [0, 0, 0, 0, 0, 0, 0, 0.1]
    assert ask(kinds, now=0.09) == 0
    assert ask(kinds, now=0.11) == 200


def test_pauses_grow_up_to_two_seconds_while_probes_find_nothing_async() -> None:
    kinds = make()
    now, pauses = 0.0, []
    for _ in range(14):
        pauses.append(probe(kinds, now=now))
        now += pauses[-1]

    assert pauses[7:] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert probe(kinds, returned=99, now=now) == 0.1


def find_nothing(kinds: Kinds, count: int, seconds: float = 0.0) -> list[int]:
    """The depths of probes that bring only plain items, after the quick first ones.

    Each takes `seconds`.
    """
    now, depths = 0.0, []
    while len(depths) < count:
        depth = ask(kinds, now=now)
        now += seconds
        now += kinds.begin_return(now, depth, depth)
        kinds.end_return()
        if depth >= 100:
            depths.append(depth)
    return depths


def test_some_probes_are_deeper_while_all_items_are_plain() -> None:
    depths = find_nothing(make(), 37)

    assert depths[:5] == [100, 200, 400, 800, 1600]
    assert depths[5:13] == [100, 200, 100, 400, 100, 200, 100, 800]
    assert [place for place, depth in enumerate(depths) if depth == 1600] == [4, 20, 36]
    assert max(depths) == 1600
    assert sum(depths[5:21]) / 16 < 350


def test_a_worker_with_many_slots_probes_no_deeper() -> None:
    assert set(find_nothing(make(depth=2000), 20)[4:]) == {2000}


def test_probes_that_take_long_are_not_made_deeper() -> None:
    assert max(find_nothing(make(), 40, seconds=0.2)) == 100


def test_a_deep_probe_that_finds_async_items_is_repeated_after_a_longer_pause() -> None:
    kinds = make()
    find_nothing(kinds, 3)
    now = 2.0

    depth = ask(kinds, now=now)
    pause = probe(kinds, returned=790, now=now)

    assert (depth, pause) == (800, 0.8)
    assert ask(kinds, now=now + 0.81) == 800


def test_nothing_is_popped_while_items_go_back_to_the_front() -> None:
    kinds = make()
    kinds.begin_return(0.0, 1, 1)

    assert ask(kinds, room=5) == 0

    kinds.end_return()
    assert ask(kinds, room=5) == 5


def test_a_queue_that_takes_nothing_back_is_asked_for_no_more_than_may_be_held() -> None:
    kinds = make()

    assert kinds.to_ask(68, 0, 0, held=0, takes_back=False) == 10
    assert kinds.to_ask(68, -3, 0, held=7, takes_back=False) == 3
    assert kinds.to_ask(68, -10, 0, held=10, takes_back=False) == 0
