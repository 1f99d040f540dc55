"""The jobs of the app. The code that defers them and the worker both import this module."""

import asyncio
import os

from deferrable.aio import Deferrable, backend

factory = backend.DocketsBackendFactory(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))
mail = Deferrable(
    factory.create_backend_for_group("fastapi_app"), default_error_classes=[ConnectionError]
)


@mail.deferrable
async def welcome(name: str) -> str:
    await asyncio.sleep(0.5)  # a mail server is slow; here is your call to it
    return f"Welcome, {name}!"
