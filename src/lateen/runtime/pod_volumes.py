"""The volumes of one running pod: made before its containers, kept current while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from lateen.runtime.cache import ObjectCache
from lateen.runtime.environment import MissingReference
from lateen.runtime.raw import Raw, name_of, namespace_of
from lateen.runtime.volumes import VolumeUnsupported, prepare_volumes, token_requests
from lateen.source.client import ApiError, ApiUnavailable, AsyncClient

REFRESH_SECONDS = 60.0


@dataclass(slots=True)
class PodVolumes:
    """Directories of a pod's volumes by name, below ``root``."""

    client: AsyncClient
    cache: ObjectCache
    pod: Raw
    ip: str
    node_name: str
    root: Path
    directories: dict[str, Path] = field(default_factory=dict)

    async def fill(self) -> None:
        """Make or renew all of them. Raises what `prepare_volumes` and the API raise."""
        tokens: dict[str, str] = {}
        for audience, lifetime in token_requests(self.pod):
            request = {
                "pod": {"namespace": namespace_of(self.pod), "name": name_of(self.pod)},
                "audiences": [audience] if audience else [],
                "lifetime": lifetime,
            }
            answer = await self.client.request("POST", "/lateen/v1/tokens", request)
            tokens[audience] = answer["token"]
        self.directories = prepare_volumes(
            self.pod, self.root, self.ip, self.node_name, self.cache, tokens
        )

    async def keep_current(self) -> None:
        """Let changed ConfigMaps and Secrets arrive and tokens stay valid, for ever."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            with contextlib.suppress(
                ApiError, ApiUnavailable, MissingReference, VolumeUnsupported, OSError
            ):
                await self.fill()
