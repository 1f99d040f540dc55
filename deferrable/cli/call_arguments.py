"""The arguments of a call, from the words of a command line.

Owns the reading of one word: JSON if it is JSON, else text, as the annotation of the parameter
says. The rule: a word that does not fit is refused before anything is pushed.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from deferrable._codec.json_values import argument_reader
from deferrable.cli.command_error import USAGE, CommandError
from deferrable.errors import UnreadableItem

__all__ = ["read_arguments", "read_word"]


def read_arguments(
    function: Callable[..., Any], words: Sequence[str], keywords: str | None
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call of `function`.

    Args:
        keywords: the arguments by name, as a JSON object; None: there are none.

    Raises:
        CommandError: one does not fit the annotation of its parameter.
    """
    named = {} if keywords is None else _read_object(keywords)
    try:
        read = argument_reader(function)
    except UnreadableItem:
        # Such as names that are imported for type checkers only. Plain JSON may be right.
        return [read_word(each) for each in words], named
    try:
        args = [_fitting(read, place, word) for place, word in enumerate(words)]
        return args, {name: read(name, value) for name, value in named.items()}
    except UnreadableItem as error:
        raise CommandError(f"nothing was pushed: {error}", USAGE) from error


def read_word(word: str) -> Any:
    """The JSON value that a word is, or the word itself."""
    try:
        value = json.loads(word, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return word
    # A commit such as 12e4567 is no number.
    return word if isinstance(value, float) and not math.isfinite(value) else value


def _fitting(read: Callable[[int | str, Any], Any], place: int, word: str) -> Any:
    value = read_word(word)
    try:
        return read(place, value)
    except UnreadableItem:
        if value == word:
            raise
    # A number or a quoted text may be meant as text.
    return read(place, word)


def _read_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--kwargs is not JSON: {error}", USAGE) from error
    if not isinstance(value, dict):
        raise CommandError('--kwargs takes a JSON object, such as \'{"subject": "Hello"}\'', USAGE)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")
