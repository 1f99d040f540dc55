"""Which version is installed.

Owns the one question to the metadata of the installation. They are written when it is built, from
the tags of git. The source tree itself has no version.
"""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["NOT_INSTALLED", "__version__"]

NOT_INSTALLED = "0+not.installed"
"""The version of a source tree that is imported without being installed."""


def _installed() -> str:
    try:
        return version("deferrable")
    except PackageNotFoundError:
        return NOT_INSTALLED


__version__ = _installed()
