"""Sizes of consistent hashing."""

from __future__ import annotations

import pytest

from lateen.api.networking.destination_rule import ConsistentHashLB, LoadBalancerSettings, MagLev
from lateen.translate.load_balancing import balancing


@pytest.mark.parametrize(("asked", "sent"), [(0, 0), (1, 2), (2, 2), (65537, 65537)])
def test_a_maglev_table_has_two_places_at_least(asked: int, sent: int) -> None:
    """0 is Envoy's own size; Envoy ends with a division by zero at 1."""
    maglev = MagLev(table_size=asked)
    consistent = ConsistentHashLB(http_header_name="h", maglev=maglev)
    settings = LoadBalancerSettings(consistent_hash=consistent)
    assert balancing(settings).maglev_table_size == sent
