"""Which addresses outside the mesh a pod may be connected to."""

from __future__ import annotations

import ipaddress

import pytest

from lateen.runtime.node.gateway import reachable_from_pods


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"),
        *("169.254.169.254", "169.254.170.2", "fe80::1", "::ffff:169.254.169.254"),
        *("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
        *("224.0.0.1", "ff02::1"),
    ],
)
def test_loopback_and_metadata_services_are_not(address: str) -> None:
    assert not reachable_from_pods(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["192.0.2.7", "10.1.2.3", "8.8.8.8", "2001:db8::1"])
def test_other_machines_are(address: str) -> None:
    assert reachable_from_pods(ipaddress.ip_address(address))
