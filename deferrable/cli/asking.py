"""Questions before something that cannot be undone.

Owns whether there is somebody to ask. The rule: without a terminal nothing is asked and nothing is
done; the error names the option that answers the question.
"""

import sys

from deferrable.cli.command_error import USAGE, CommandError

__all__ = ["check_terminal"]


def check_terminal(why: str, otherwise: str = "add --yes") -> None:
    """Refuse to ask where nobody can answer.

    Args:
        why: why the command asks.
        otherwise: what to do without a terminal.

    Raises:
        CommandError: there is no terminal.
    """
    if not has_terminal():
        raise CommandError(f"{why}, and there is no terminal to ask on; {otherwise}", USAGE)


def has_terminal() -> bool:
    return sys.stdin.isatty()
