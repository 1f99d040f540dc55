"""Periodic jobs, for the commands that show and run schedules."""

import os

from deferrable import Deferrable
from deferrable.backend import DocketsBackendFactory

_factory = DocketsBackendFactory(os.environ["REDIS_URL"], wait_time=1)
shop = Deferrable(_factory.create_backend_for_group(os.environ["GROUP"]))
none = Deferrable(_factory.create_backend_for_group("none"))


@shop.periodic("0 6 * * *", timezone="Europe/Berlin", args=("daily",), name="report-daily")
@shop.periodic(every_seconds=3600, jitter_seconds=60, args=("hourly",), name="report-hourly")
def report(kind: str) -> str:
    return kind
