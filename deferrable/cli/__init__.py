"""The command line: ``deferrable``, or ``python -m deferrable``.

Owns the message for a missing extra, and what must happen before the imports of a command, which
take some tenths of a second. Nothing else of the library imports this package.
"""

import sys

from deferrable.cli.early import end_at_signals, is_worker
from deferrable.cli.streams import prepare_streams

__all__ = ["main"]


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    if is_worker():
        end_at_signals()
    prepare_streams()
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        from deferrable._extras import missing_extra

        sys.exit(f"deferrable: {missing_extra('the command line', 'cli', error)}")
    from deferrable.cli.app import run

    run()
