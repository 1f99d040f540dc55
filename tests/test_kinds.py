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


def test_probes_get_deeper_at_once_until_the_deepest_and_then_pause() -> None:
    kinds = make()
    depths, pauses = [], []
    for _ in range(8):
        depths.append(ask(kinds))
        pauses.append(probe(kinds))

    assert depths == [1, 2, 4, 8, 16, 32, 64, 100]
    assert pauses == [0, 0, 0, 0, 0, 0, 0, 0.1]
    assert ask(kinds, now=0.09) == 0
    assert ask(kinds, now=0.11) == 100


def test_pauses_grow_up_to_two_seconds_while_probes_find_nothing_async() -> None:
    kinds = make()
    now, pauses = 0.0, []
    for _ in range(14):
        pauses.append(probe(kinds, now=now))
        now += pauses[-1]

    assert pauses[7:] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert probe(kinds, returned=99, now=now) == 0.1


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
