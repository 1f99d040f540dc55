"""What is said where the package of an extra is missing."""

__all__ = ["missing_extra"]


def missing_extra(who: str, extra: str, error: ImportError) -> ImportError:
    """The error to raise instead of a plain ``No module named ...``.

    Args:
        who: needs the package.
        extra: brings it.
        error: of the import.
    """
    return ImportError(
        f"{who} needs the package {error.name!r}, which is not installed; install the extra: "
        f"pip install 'deferrable[{extra}]'",
        name=error.name,
    )
