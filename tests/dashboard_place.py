"""A visitor of a dashboard, without a server between them; for tests of the dashboard."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

import httpx

from deferrable.contrib.dashboard import app

__all__ = ["BASE", "Visitor", "visit"]

BASE = "http://localhost"


class Visitor:
    """Reads pages and sends their forms, as a browser does."""

    def __init__(self, made: Any, root_path: str = "") -> None:
        self.made = made
        transport = httpx.ASGITransport(made, root_path=root_path)
        self.client = httpx.AsyncClient(transport=transport, base_url=BASE)
        self.root_path = root_path

    async def get(self, path: str, **params: str) -> httpx.Response:
        return await self.client.get(f"{self.root_path}{path}", params=params)

    async def see(self, path: str, **params: str) -> str:
        """The page, which must be there."""
        answer = await self.get(path, **params)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.text

    async def send(self, path: str, **fields: str) -> httpx.Response:
        """Send a form with the token of this browser, and go where the answer says."""
        if "deferrable_form" not in self.client.cookies:
            await self.see("/")
        token = self.client.cookies["deferrable_form"]
        data = {"form_token": token, **fields}
        return await self.client.post(f"{self.root_path}{path}", data=data, follow_redirects=True)


@asynccontextmanager
async def visit(instances: Any, **options: Any) -> AsyncIterator[Visitor]:
    """A visitor of a new dashboard."""
    made = app(instances, **options)
    async with made.router.lifespan_context(made):
        visitor = Visitor(made)
        async with visitor.client:
            yield visitor


def text_of(page: str) -> str:
    """What a person reads on a page."""
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)))
