"""What a dashboard costs: its CPU, and the commands that it sends, with ten queues in Redis.

MONITOR watches the commands, on the benchmark's own Redis. A visitor keeps the overview open.
Another process pushes 100 items a second, so that each reading changes the page.
``python benchmarks/dashboard.py [SECONDS]``
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from idle import watch  # noqa: E402
from redis_server import RedisServer, start_redis  # noqa: E402

from deferrable.aio import Deferrable  # noqa: E402
from deferrable.aio.backend import DocketsBackendFactory  # noqa: E402
from deferrable.contrib.dashboard import app  # noqa: E402

QUEUES = 10
PUSHER = """
import sys, time, redis
client = redis.Redis.from_url(sys.argv[1])
while True:
    client.lpush("queue.deferrable_dashboard-0", '{"item": {}}')
    time.sleep(0.01)
"""


async def visit(made: Any, is_over: asyncio.Event) -> int:
    """Keep the overview open, and count its updates."""
    updates = 0

    async def receive() -> dict[str, Any]:
        await is_over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal updates
        updates += b"event: live" in message.get("body", b"")

    scope = {
        "type": "http", "method": "GET", "path": "/live/", "root_path": "", "query_string": b"",
        "headers": [], "scheme": "http", "server": ("localhost", 80),
        "asgi": {"version": "3.0", "spec_version": "2.0"},
    }  # fmt: skip
    while not is_over.is_set():
        await made({**scope}, receive, send)
        await asyncio.sleep(0.5)  # as a browser, whose streams end after a while
    return updates


def begin_program(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)


async def measure(server: RedisServer, seconds: float) -> dict[str, float]:
    """Commands a second, and the part of a core, of a dashboard that one visitor looks at."""
    factory = DocketsBackendFactory(server.url)
    names = [f"dashboard-{number}" for number in range(QUEUES)]
    shops = {name: Deferrable(factory.create_backend_for_group(name)) for name in names}
    made = app(shops, counts_calls=False)
    is_over = asyncio.Event()
    async with made.router.lifespan_context(made):
        visiting = asyncio.ensure_future(visit(made, is_over))
        await asyncio.sleep(5)  # until connections are open and scripts are known
        pusher = begin_program("-c", PUSHER, server.url)
        try:
            await asyncio.sleep(1)
            cpu, begin = time.process_time(), time.monotonic()
            watching = begin_program(__file__, "--watch", str(server.port), str(seconds))
            await asyncio.sleep(seconds)
            used, passed = time.process_time() - cpu, time.monotonic() - begin
            sent = int((await asyncio.to_thread(watching.communicate))[0])
        finally:
            pusher.kill()
            pusher.wait()
        is_over.set()
        updates = await visiting
    for shop in shops.values():
        await shop.close()
    return {
        "commands a second": sent / seconds,
        "percent of a core": 100 * used / passed,
        "updates a second": updates / (passed + 6),
    }


def count_commands(port: int, seconds: float) -> int:
    """What clients have sent meanwhile, but for the pusher."""
    server: Any = SimpleNamespace(host="127.0.0.1", port=port)
    sent, _ = watch(server, seconds)
    return sum(count for name, count in sent.items() if name.lower() != "lpush")


if __name__ == "__main__":
    if "--watch" in sys.argv:
        print(count_commands(int(sys.argv[2]), float(sys.argv[3])))
    else:
        with start_redis() as server:
            found = asyncio.run(measure(server, float([*sys.argv[1:], "30"][0])))
        for name, value in found.items():
            print(f"{name:20} {value:8.2f}")
