"""Restart the process when source files change.

Owns which files count, how a change is noticed, and the restart: the same process runs the same
command line again.
"""

import os
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["FileWatch", "restart_process", "wait_for_change_below"]

_LOOK_SECONDS = 0.5


class FileWatch:
    """Watches the imported modules of the user.

    Args:
        on_change: called once, in the watch's thread, with the changed file.
    """

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deferrable-reload", daemon=True)

    def __enter__(self) -> Self:
        self._seen = _moments(imported_files())
        self._thread.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            now = _moments(imported_files() | set(self._seen))
            changed = [path for path, moment in self._seen.items() if now[path] != moment]
            if changed:
                self._on_change(f"{os.path.relpath(changed[0])} has changed")
                return
            self._seen = now


def imported_files() -> set[str]:
    """The source files of imported modules, without the standard library and installed packages."""
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib")}
    libraries |= {*site.getsitepackages(), site.getusersitepackages()}
    roots = tuple(os.path.join(each, "") for each in libraries)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {
        each
        for each in files
        if isinstance(each, str) and each.endswith(".py") and not each.startswith(roots)
    }


def wait_for_change_below(folder: Path, wait: Callable[[float], bool]) -> bool:
    """Return once a source file below `folder` has changed: for code that cannot be imported.

    Args:
        wait: waits for a number of seconds; if it returns True, give up.

    Returns:
        whether a file has changed; False after giving up.
    """
    seen = _moments(_files_below(folder))
    while not wait(_LOOK_SECONDS):
        if _moments(_files_below(folder)) != seen:
            return True
    return False


def _files_below(folder: Path) -> Iterable[str]:
    for directory, directories, names in os.walk(folder):
        hidden = {each for each in directories if each.startswith((".", "__pycache__"))}
        directories[:] = [each for each in directories if each not in hidden]
        yield from (os.path.join(directory, name) for name in names if name.endswith(".py"))


def _moments(paths: Iterable[str]) -> dict[str, int | None]:
    return {path: _moment(path) for path in paths}


def _moment(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def restart_process() -> None:
    """Replace the process by the same command line. Does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    # The command line that started us.
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
