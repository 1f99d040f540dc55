"""What is said where the package of an extra is missing.

Owns the command that installs an extra. It names the place from which this installation came: a
folder, a wheel, a repository, or an index. So it works as it is printed.

Source: PEP 610, which says what ``direct_url.json`` contains.
"""

from typing import Any

__all__ = ["install_command", "install_target", "missing_extra"]

_NAME = "deferrable"


def missing_extra(who: str, extra: str, error: ImportError) -> ImportError:
    """The error to raise instead of a plain ``No module named ...``.

    Args:
        who: needs the package.
        extra: brings it.
        error: of the import.
    """
    return ImportError(
        f"{who} needs the package {error.name!r}, which is not installed; install the extra: "
        f"{install_command(extra)}",
        name=error.name,
    )


def install_command(extra: str) -> str:
    """The command that adds an extra to this installation."""
    # Only in here, because most programs lack nothing.
    import json
    import shlex
    from importlib.metadata import PackageNotFoundError, distribution
    from pathlib import Path

    tree = Path(__file__).resolve().parents[1]
    try:
        text = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:  # a source tree on the path
        return f"pip install {shlex.quote(f'{tree}[{extra}]')}"
    try:
        record = json.loads(text) if text else {}
    except ValueError:
        record = {}
    return f"pip install {install_target(extra, record if isinstance(record, dict) else {})}"


def install_target(extra: str, record: dict[str, Any]) -> str:
    """What pip is given, quoted for a shell.

    Args:
        record: the origin of this installation, as in ``direct_url.json``; empty: an index.
    """
    import shlex
    from pathlib import Path
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    named, url = f"{_NAME}[{extra}]", record.get("url")
    if not isinstance(url, str):
        return shlex.quote(named)
    if url.startswith("file:") and "vcs_info" not in record:
        path = url2pathname(urlsplit(url).path)
        if not Path(path).exists():
            return shlex.quote(named)
        is_editable = bool(record.get("dir_info", {}).get("editable"))
        return f"{'-e ' if is_editable else ''}{shlex.quote(f'{path}[{extra}]')}"
    vcs = record.get("vcs_info", {})
    if vcs:
        url = f"{vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', '')}".rstrip("@")
    return shlex.quote(f"{named} @ {url}")
