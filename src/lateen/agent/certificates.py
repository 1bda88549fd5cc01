"""A pod's certificate: fetched, put where Envoy reads it, renewed in time."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from lateen.agent.key_maker import shared_maker
from lateen.pki.errors import PkiError
from lateen.pki.keys import KeyAndRequest
from lateen.pki.sds import write_secrets
from lateen.source.client import ApiError, ApiUnavailable, AsyncClient

PATH = "/lateen/v1/certificates"
TRUST_PATH = "/lateen/v1/trust-bundle"
FIRST_SECONDS = 5.0
"""How long `CertificateKeeper.start` tries again while the control plane is not ready for it."""
RENEW_SHARE = (0.45, 0.55)
"""Share of the lifetime after which a certificate is renewed: spread, so that pods that started
together do not renew together."""
CHECK_SECONDS = 60.0
"""How often the clock and the trust bundle are looked at."""
SHORTEST_RETRY, LONGEST_RETRY = 1.0, 60.0

logger = logging.getLogger(__name__)


class CertificateError(Exception):
    """A pod has no certificate; the text says why and what to do."""


class CertificateKeeper:
    """Keeps the secret files of one pod fresh.

    ``directory`` is the pod's private directory in memory, ``owner`` the uid and gid of Envoy when
    they are not the agent's. The private key is made for each certificate anew, is written to that
    directory only, and never logged.
    """

    expires: str
    """End of the certificate on disk, RFC 3339; empty before the first."""
    last_error: str
    """Why the last attempt failed; empty after a success."""

    def __init__(
        self,
        client: AsyncClient,
        namespace: str,
        pod: str,
        directory: Path,
        *,
        owner: tuple[int, int] | None = None,
        make_key: Callable[[], Awaitable[KeyAndRequest]] | None = None,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self.expires = ""
        self.last_error = ""
        self.renewals = 0
        self._client = client
        self._namespace = namespace
        self._pod = pod
        self._directory = directory
        self._owner = owner
        self._make_key = make_key
        self._check_seconds = check_seconds
        self._bundle = ""
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._wanted = asyncio.Event()

    async def start(self) -> None:
        """Get the first certificate; it is on disk when this returns.

        A control plane that is just starting, or has not seen the pod yet, is asked again for
        `FIRST_SECONDS`. Raises `CertificateError`.
        """
        deadline = time.monotonic() + FIRST_SECONDS
        delay = 0.05
        key = await self._new_key()
        while True:
            try:
                await self._fetch(key)
                return
            except _NotYetError as error:
                if time.monotonic() + delay > deadline:
                    raise CertificateError(str(error)) from error
            await asyncio.sleep(delay)
            delay = min(delay * 2, 1.0)

    async def run(self) -> None:
        """Renew until cancelled. The old certificate serves until the new one is there."""
        retry = SHORTEST_RETRY
        while True:
            wait = max(0.0, min(self._renew_at - time.time(), self._check_seconds))
            if self.last_error:
                wait = retry * random.uniform(0.8, 1.2)
            try:
                async with asyncio.timeout(wait):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            due = self._wanted.is_set() or bool(self.last_error) or time.time() >= self._renew_at
            if not due and not await self._trust_changed():
                continue
            self._wanted.clear()
            try:
                await self._fetch(await self._new_key())
            except (CertificateError, _NotYetError) as error:
                retry = SHORTEST_RETRY if not self.last_error else min(retry * 2, LONGEST_RETRY)
                self._failed(error)
            else:
                retry = SHORTEST_RETRY
                self.renewals += 1
                self.last_error = ""
                logger.info(
                    "pod %s/%s: certificate renewed, valid until %s",
                    self._namespace,
                    self._pod,
                    self.expires,
                )

    def renew(self) -> None:
        """Ask for a new certificate now (the pod's identity or the mesh's trust has changed)."""
        self._wanted.set()

    def _failed(self, error: Exception) -> None:
        left = self._ends_at - time.time()
        state = (
            f"the present one ends in {left / 60:.0f} min"
            if left > 0
            else f"the last one has ended at {self.expires}: this pod's connections fail"
        )
        text = f"{error}; {state}"
        level = logging.WARNING if left > 0 else logging.ERROR
        if not self.last_error:
            logger.log(level, "pod %s/%s: %s", self._namespace, self._pod, text)
        self.last_error = text

    async def _trust_changed(self) -> bool:
        try:
            answer = await self._client.request("GET", TRUST_PATH)
        except (ApiError, ApiUnavailable, OSError, TimeoutError):
            return False  # asked again soon; nothing depends on this one answer
        bundle = answer.get("trust_bundle")
        return bool(bundle) and bundle != self._bundle

    async def _new_key(self) -> KeyAndRequest:
        try:
            return await (self._make_key or shared_maker().make)()
        except PkiError as error:
            raise CertificateError(str(error)) from error

    async def _fetch(self, key: KeyAndRequest) -> None:
        """Have ``key`` certified and write the files. Raises `CertificateError`, `_NotYetError`."""
        body = {
            "csr": key.request.decode(),
            "pod": {"namespace": self._namespace, "name": self._pod},
        }
        who = f"no certificate for pod {self._namespace}/{self._pod}"
        try:
            answer = await self._client.request("POST", PATH, body)
        except ApiError as error:
            kind = _NotYetError if error.status in (404, 429) or error.status >= 500 else None
            raise (kind or CertificateError)(f"{who}: {error}") from error
        except (ApiUnavailable, OSError, TimeoutError) as error:
            raise _NotYetError(
                f"{who}: the control plane does not answer "
                f"({str(error) or 'timeout'}); see `lateen status` and its log"
            ) from error
        try:
            chain, bundle = str(answer["chain"]), str(answer["trust_bundle"])
            ends = datetime.fromisoformat(str(answer["expires"])).astimezone(UTC).timestamp()
        except (KeyError, TypeError, ValueError) as error:
            raise CertificateError(f"{who}: the control plane's answer is unusable") from error
        lifetime = ends - time.time()
        if lifetime <= 0:
            raise CertificateError(f"{who}: the one issued has ended already; is the clock right?")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._owner is not None:
                os.chown(self._directory, *self._owner)
            write_secrets(
                self._directory, chain.encode(), key.key, bundle.encode(), owner=self._owner
            )
        except OSError as error:
            raise CertificateError(f"{who}: {self._directory}: {error.strerror}") from error
        self.expires = str(answer["expires"])
        self._bundle = bundle
        self._ends_at = ends
        self._renew_at = time.time() + lifetime * random.uniform(*RENEW_SHARE)


class _NotYetError(Exception):
    """The control plane could not answer now; later it may."""
