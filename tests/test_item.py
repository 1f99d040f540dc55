"""Identifiers: random uuids, made many at a time, and never the same ones in two processes."""

from uuid import RFC_4122, UUID

from processes import run_program

from deferrable.item import new_id


def test_each_identifier_is_the_text_of_a_random_uuid_of_its_own() -> None:
    ids = [new_id() for _ in range(1000)]

    assert len(set(ids)) == len(ids)
    for text in ids:
        identifier = UUID(text)
        assert (str(identifier), identifier.version, identifier.variant) == (text, 4, RFC_4122)


def test_identifiers_use_every_digit_in_every_random_place() -> None:
    ids = [new_id() for _ in range(2000)]

    digits = [len(set(column)) for column in zip(*ids, strict=True)]

    places = [16] * 8 + [1] + [16] * 4 + [1, 1] + [16] * 3 + [1, 4] + [16] * 3 + [1] + [16] * 12
    assert digits == places


def test_forked_child_and_its_parent_make_other_identifiers() -> None:
    lines = run_program("""
        import os, sys
        from deferrable.item import new_id

        new_id()  # the rest of what was made with it is inherited
        child = os.fork()
        ids = [new_id() for _ in range(100)]
        if child:
            os.waitpid(child, 0)
        print(*ids, sep="\\n")
    """)

    assert len(set(lines)) == len(lines) == 200
