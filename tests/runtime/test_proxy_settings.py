"""What the agent makes of a proxy's settings."""

from __future__ import annotations

import os

from lateen.runtime.proxy_settings import ProxySettings, proxy_settings


def test_what_nobody_set_is_the_nodes_own() -> None:
    settings = proxy_settings({"concurrency": None, "holdApplication": None}, 3)
    assert settings == ProxySettings(concurrency=3)
    assert settings.hold_application


def test_no_number_of_threads_is_one_per_core() -> None:
    assert proxy_settings({"concurrency": 0}, 3).concurrency == os.cpu_count()


def test_what_is_set_holds() -> None:
    data = {
        "concurrency": 2,
        "drainSeconds": 7.0,
        "terminationDrainSeconds": 0.0,
        "holdApplication": False,
        "environment": {"A": "b"},
        "trustDomain": "mesh.example",
    }
    assert proxy_settings(data, 1) == ProxySettings(2, 7.0, 0.0, False, {"A": "b"}, "mesh.example")
