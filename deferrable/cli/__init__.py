"""The command line: ``deferrable``, or ``python -m deferrable``.

This door owns what a missing extra says. It may know nothing of the commands; nothing else of the
library imports this package.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        sys.exit(
            f"deferrable: the command line needs the package {error.name!r}, which is not "
            "installed; install the extra: pip install 'deferrable[cli]'"
        )
    from deferrable.cli.app import run

    run()
