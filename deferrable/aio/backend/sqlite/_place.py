"""Which file is meant, and whether SQLite can be relied on there.

Owns the path, and the checks that need no connection: kinds of path that cannot be shared, network
file systems, and a file that was deleted or replaced while it was open.

The one rule: the file is never opened here. On POSIX, closing any handle of a file ends all locks
that this process has on it, those of SQLite included.
"""

import os
import sqlite3
import sys
from pathlib import Path
from typing import Final, TypeAlias

from deferrable._codec.refusals import short_repr
from deferrable.errors import BackendError, InvalidOptions

__all__ = ["FileId", "Place", "boot_id", "network_file_system"]

FileId: TypeAlias = tuple[int, int]
"""Device and inode."""

_LEAST_SQLITE: Final = (3, 37, 0)
_NETWORKS: Final = frozenset(
    {
        "nfs",
        "nfs3",
        "nfs4",
        "cifs",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "gpfs",
        "beegfs",
        "glusterfs",
        "gfs2",
        "ocfs2",
        "pvfs2",
        "orangefs",
        "ncpfs",
        "coda",
        "davfs",
        "webdav",
        "sshfs",
        "s3fs",
        "vboxsf",
        "prl_fs",
        "vmhgfs",
    }
)
_NETWORK_FUSES: Final = frozenset(
    {
        "sshfs",
        "rclone",
        "s3fs",
        "gcsfuse",
        "goofys",
        "mount-s3",
        "glusterfs",
        "ceph",
        "cephfs",
        "davfs2",
        "vmhgfs-fuse",
        "curlftpfs",
        "juicefs",
        "seaweedfs",
        "moosefs",
    }
)


class Place:
    """One file, by its resolved path.

    Args:
        path: a `str`, `bytes` or `os.PathLike`. A relative one is resolved now, so that a later
            change of the working directory makes no difference.

    Raises:
        InvalidOptions: it is no path of a file, or this Python's SQLite is too old.
    """

    def __init__(self, path: object) -> None:
        _check_sqlite()
        if not isinstance(path, str | bytes | os.PathLike):
            raise InvalidOptions(
                f"the path of a SQLite file is a str or a Path, got {short_repr(path)}"
            )
        text = os.fsdecode(path)
        if not text or text.startswith(":memory:"):
            raise InvalidOptions(
                f"a SQLite backend needs a file that processes can share, got {text!r}; use "
                "InMemoryBackendFactory for a queue in memory"
            )
        if text.startswith(("file:", "sqlite:")) or "\0" in text:
            raise InvalidOptions(
                f"the path of a SQLite file is a plain path, no URL, got {text!r}; write "
                "'jobs.db' or Path('jobs.db')"
            )
        self.path = os.path.realpath(text)
        self.shown = self.path.encode(errors="backslashreplace").decode()

    def file_id(self) -> FileId | None:
        """The file's device and inode; None: it does not exist."""
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BackendError(f"{self.shown} cannot be looked at: {error}") from error
        return found.st_dev, found.st_ino

    def check(self) -> None:
        """Refuse a place where SQLite cannot keep its promises.

        Raises:
            BackendError: the message says why.
        """
        directory = os.path.dirname(self.path)
        if not os.path.isdir(directory):
            raise BackendError(
                f"{self.shown} cannot be created: its directory does not exist; create it, or give "
                "another path"
            )
        if os.path.isdir(self.path):
            raise BackendError(f"{self.shown} is a directory; give the path of a file in it")
        kind = network_file_system(directory)
        if kind is not None:
            raise BackendError(
                f"{self.shown} is on a network file system ({kind}), where SQLite's locks and "
                "shared memory do not work; put the file on a local disk, or use Redis"
            )
        if os.path.exists(self.path) and os.stat(self.path).st_nlink > 1:
            raise BackendError(
                f"{self.shown} has several names (hard links). Programs that open it under "
                "different names damage it; remove the other names, or use a symbolic link"
            )


def _check_sqlite() -> None:
    if sqlite3.sqlite_version_info < _LEAST_SQLITE:
        raise InvalidOptions(
            f"the SQLite backend needs SQLite {'.'.join(map(str, _LEAST_SQLITE))} or later, this "
            f"Python has {sqlite3.sqlite_version}; use a Python that was built with a newer one"
        )


def network_file_system(directory: str, mounts: str = "/proc/self/mounts") -> str | None:
    """The kind of network file system on which `directory` lies; None: local, or unknown."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        lines = Path(mounts).read_bytes().splitlines()
    except OSError:
        return None
    best, kind = b"", b""
    target = os.fsencode(directory)
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = _unescaped(fields[1])
        # The last of several mounts on one point is the one that is seen.
        if _is_under(target, point) and len(point) >= len(best):
            best, kind = point, fields[2]
    name = kind.decode(errors="replace")
    if name in _NETWORKS or name.removeprefix("fuse.") in _NETWORK_FUSES:
        return name
    return None


def _is_under(path: bytes, point: bytes) -> bool:
    return path == point or path.startswith(point.rstrip(b"/") + b"/")


def _unescaped(field: bytes) -> bytes:
    """A mount point as it is; the kernel writes blanks and backslashes as octal numbers."""
    for code, plain in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(code, plain)
    return field


def boot_id() -> str | None:
    """What changes when the machine starts again; None: unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or None
    except OSError:
        return None
