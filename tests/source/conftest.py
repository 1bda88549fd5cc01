"""A served API for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio
from aiohttp import web

from lateen.source.api_server import bind_private_socket, make_app
from lateen.source.client import AsyncClient, Client
from lateen.source.store import Store


@dataclass
class Api:
    """A store, its API on a Unix socket, and clients of it."""

    store: Store
    path: Path
    client: AsyncClient
    blocking: Client


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The API of an empty store on a real Unix socket."""
    store = Store(tmp_path / "store.db")
    runner = web.AppRunner(make_app(store), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    path = tmp_path / "api.sock"
    await web.SockSite(runner, bind_private_socket(path)).start()
    yield Api(store, path, AsyncClient(path), Client(path))
    store.close()
    await runner.cleanup()
