"""A Python that has imported what programs import, and becomes a new program for each order.

Owns the order's way from a socket to the new program. `warm_python.py` starts it and sends orders.
It must never import deferrable, nor start a thread: a program imports the library itself, and only
a process with one thread may be forked.
"""

import codecs
import gc
import importlib
import json
import os
import runpy
import socket
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

# What the command line and programs with a Redis spend most of their start on.
IMPORTED = (
    *("asyncio", "concurrent.futures.thread", "email.parser", "fractions", "http.server"),
    *("importlib.metadata", "logging.config", "secrets", "sqlite3", "ssl", "statistics"),
    *("tempfile", "urllib.request", "uuid", "zipfile", "zoneinfo"),
    *("anyio", "anyio._backends._asyncio", "anyio.from_thread", "anyio.to_thread"),
    *("click", "click.shell_completion", "msgspec.inspect", "msgspec.json"),
    *("redis", "redis.asyncio", "redis.asyncio.client", "redis.asyncio.sentinel"),
    *("redis.asyncio.cluster", "rich.console", "rich.live", "rich.progress", "rich.table"),
)


def serve(orders: socket.socket) -> dict[str, Any]:
    """Fork for each order; return it in the process that is to be the new program."""
    while True:
        length, streams, _, _ = socket.recv_fds(orders, 8, 3)
        if not length:
            os._exit(0)  # who sends orders has ended
        order: dict[str, Any] = json.loads(_read(orders, int.from_bytes(length, "big")))
        process_id = _fork_twice()
        if process_id is None:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            orders.detach()
            os.closerange(3, max(*streams, 64) + 1)
            return order
        for stream in streams:
            os.close(stream)
        orders.sendall(process_id.to_bytes(8, "big"))


def _read(orders: socket.socket, length: int) -> bytes:
    read = b""
    while len(read) < length:
        read += orders.recv(length - len(read))
    return read


def _fork_twice() -> int | None:
    """The id of a process that is no child of this one; None in that process."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        parent = os.getpid()
        grandchild = os.fork()
        if grandchild:
            os.write(writer, grandchild.to_bytes(8, "big"))
            os._exit(0)
        os.close(reader)
        os.close(writer)
        while os.getppid() == parent:  # a program may ask who its parent is
            os.sched_yield()
        return None
    os.close(writer)
    # The new program gets its new parent when this child has ended, and not before.
    os.waitpid(child, 0)
    process_id = int.from_bytes(os.read(reader, 8), "big")
    os.close(reader)
    return process_id


def become(order: dict[str, Any]) -> list[str]:
    """Make this process what a new one is that was started so; return the program's arguments."""
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    options, arguments = order["options"], order["arguments"]
    named = os.environ.get("PYTHONWARNINGS", "")
    sys.warnoptions[:] = [each for each in named.split(",") if each] + options
    warnings._processoptions(sys.warnoptions)  # type: ignore[attr-defined]
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
    sys.orig_argv[:] = [sys.executable, *(["-W", *options] if options else []), *arguments]
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    if encoding:
        encoding = codecs.lookup(encoding).name
        for stream in (sys.stdin, sys.stdout):
            stream.reconfigure(encoding=encoding, errors=errors or "strict")
        sys.stderr.reconfigure(encoding=encoding, errors="backslashreplace")
    named_paths = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path[:] = ["", *named_paths, *(each for each in sys.path[1:] if each not in named_paths)]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    main = types.ModuleType("__main__")
    vars(main)["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    return list(arguments)


def run(arguments: list[str]) -> None:
    """Run them as a new Python would that has them on its command line."""
    first, *rest = arguments
    variables = vars(sys.modules["__main__"])
    if first == "-m":
        sys.path[0] = str(Path.cwd())
        sys.argv[:] = rest
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
    elif first == "-c":
        sys.argv[:] = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), variables)
    else:
        sys.path[0] = str(Path(first).resolve().parent)
        sys.argv[:] = [first, *rest]
        variables["__file__"] = str(Path(first).absolute())
        exec(compile(Path(first).read_bytes(), first, "exec"), variables)


if __name__ == "__main__":
    for _name in IMPORTED:
        importlib.import_module(_name)
    gc.collect()
    gc.freeze()  # for good: a program that ends would else copy all of it, to look at it
    _order = serve(socket.socket(fileno=int(sys.argv[1])))
    run(become(_order))
