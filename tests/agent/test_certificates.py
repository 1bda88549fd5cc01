"""The keeper against a real authority behind the real API client."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lateen.agent.certificates import CertificateError, CertificateKeeper
from lateen.agent.key_maker import KeyMaker
from lateen.model.service import WorkloadIdentity
from lateen.pki.authority import Authority, load_or_create
from lateen.source.client import AsyncClient

pytestmark = pytest.mark.timeout(60)


class ControlPlane:
    """The part of the API that certificates need, on a Unix socket."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "api.sock"
        self.authority: Authority = load_or_create(directory / "ca")
        self.lifetime = 3600.0
        self.requests = 0
        self.refuse = 0
        self.status = 503

    async def certificates(self, request: web.Request) -> web.Response:
        self.requests += 1
        if self.refuse:
            self.refuse -= 1
            return web.json_response({"message": "not now"}, status=self.status)
        body = await request.json()
        pod = body["pod"]
        identity = WorkloadIdentity(pod["namespace"], pod["name"], service_account=pod["name"])
        issued = self.authority.sign(body["csr"].encode(), identity, datetime.timedelta(hours=1))
        # The authority issues no certificate as short as a test wants it.
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.lifetime)
        answer = {
            "chain": issued.chain.decode(),
            "trust_bundle": self.authority.trust_bundle.decode(),
            "expires": expires.isoformat().replace("+00:00", "Z"),
        }
        return web.json_response(answer)

    async def trust(self, request: web.Request) -> web.Response:
        return web.json_response({"trust_bundle": self.authority.trust_bundle.decode()})


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    made = ControlPlane(tmp_path)
    app = web.Application()
    app.router.add_post("/lateen/v1/certificates", made.certificates)
    app.router.add_get("/lateen/v1/trust-bundle", made.trust)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(made.socket)).start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def maker() -> AsyncIterator[KeyMaker]:
    made = KeyMaker()
    yield made
    await made.close()


def keeper(plane: ControlPlane, maker: KeyMaker, **options: Any) -> CertificateKeeper:
    directory = plane.socket.parent / "proxy"
    client = AsyncClient(plane.socket)
    return CertificateKeeper(client, "shop", "web", directory, make_key=maker.make, **options)


def secrets(plane: ControlPlane) -> tuple[x509.Certificate, bytes, bytes]:
    """Certificate, key and trust bundle as Envoy would read them."""
    directory = plane.socket.parent / "proxy"
    leaf = json.loads((directory / "certificate.yaml").read_text())["resources"][0]
    trust = json.loads((directory / "trust.yaml").read_text())["resources"][0]

    def inline(item: dict[str, str]) -> bytes:
        return base64.b64decode(item["inline_bytes"])

    chain = inline(leaf["tls_certificate"]["certificate_chain"])
    key = inline(leaf["tls_certificate"]["private_key"])
    return (
        x509.load_pem_x509_certificate(chain),
        key,
        inline(trust["validation_context"]["trusted_ca"]),
    )


@contextlib.asynccontextmanager
async def running(kept: CertificateKeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(kept.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_the_first_certificate(plane: ControlPlane, maker: KeyMaker) -> None:
    kept = keeper(plane, maker, owner=(os.getuid(), os.getgid()))
    await kept.start()
    certificate, key, bundle = secrets(plane)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/shop/sa/web"
    ]
    own = serialization.load_pem_private_key(key, None).public_key()
    assert own == certificate.public_key()
    assert bundle == plane.authority.trust_bundle
    assert kept.expires
    assert not kept.last_error
    directory = plane.socket.parent / "proxy"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {f.name: f.stat().st_mode & 0o777 for f in directory.iterdir()} == {
        "certificate.yaml": 0o600,
        "trust.yaml": 0o600,
    }


async def test_a_control_plane_that_is_not_ready_is_asked_again(
    plane: ControlPlane, maker: KeyMaker
) -> None:
    plane.refuse, plane.status = 2, 404
    await keeper(plane, maker).start()
    assert plane.requests == 3


async def test_a_refusal_is_told_at_once(plane: ControlPlane, maker: KeyMaker) -> None:
    plane.refuse, plane.status = 1, 422
    with pytest.raises(CertificateError, match="pod shop/web: not now"):
        await keeper(plane, maker).start()


async def test_nobody_there(
    plane: ControlPlane, maker: KeyMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lateen.agent.certificates.FIRST_SECONDS", 0.2)
    plane.socket.unlink()
    with pytest.raises(CertificateError, match="the control plane does not answer"):
        await keeper(plane, maker).start()


async def test_renewal_at_half_of_the_lifetime(
    plane: ControlPlane, maker: KeyMaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    plane.lifetime = 4.0
    kept = keeper(plane, maker)
    await kept.start()
    first, first_key, _ = secrets(plane)
    async with running(kept):
        await until(lambda: kept.renewals == 1)
    second, second_key, _ = secrets(plane)
    assert second.serial_number != first.serial_number
    assert second_key != first_key
    assert "PRIVATE" not in caplog.text


async def test_a_failed_renewal_keeps_the_old_one_and_tries_again(
    plane: ControlPlane, maker: KeyMaker, caplog: pytest.LogCaptureFixture
) -> None:
    kept = keeper(plane, maker)
    await kept.start()
    before = secrets(plane)
    plane.refuse = 1
    async with running(kept):
        kept.renew()
        await until(lambda: kept.last_error)
        assert secrets(plane) == before
        assert "not now; the present one ends in" in kept.last_error
        await until(lambda: kept.renewals == 1)
    assert not kept.last_error
    assert secrets(plane) != before


async def test_a_changed_trust_bundle_is_noticed(plane: ControlPlane, maker: KeyMaker) -> None:
    kept = keeper(plane, maker, check_seconds=0.1)
    await kept.start()
    async with running(kept):
        await asyncio.sleep(0.3)
        assert plane.requests == 1
        plane.authority = load_or_create(plane.socket.parent / "new-ca")
        await until(lambda: kept.renewals == 1)
    assert secrets(plane)[2] == plane.authority.trust_bundle


async def test_the_helper_serves_many_and_leaves_when_idle() -> None:
    maker = KeyMaker(idle_seconds=0.2)
    made = await asyncio.gather(*(maker.make() for _ in range(5)))
    assert len({key for key, _ in made}) == 5
    child = maker._child
    assert child is not None
    await until(lambda: child.returncode == 0)
    assert (await maker.make()).key.startswith(b"-----BEGIN PRIVATE KEY")
    again = maker._child
    assert again is not None
    again.kill()
    await asyncio.sleep(0.1)
    await maker.make()  # a helper that was killed is replaced
    await maker.close()
