"""Snapshot and scope to IR: pure functions, part by part.

`translate` makes everything; the parts (`clusters.outbound_clusters`, `endpoints.load_assignments`,
`outbound.listeners`, `routes.route_configuration`, `inbound`, `gateway`) can be asked one by one
with a `View`, and give back the same object while their inputs are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lateen.translate.configuration import translate

__all__ = ["translate"]


def __getattr__(name: str) -> object:
    """`translate`, loaded when asked for: most importers want one small module only."""
    if name == "translate":
        from lateen.translate.configuration import translate

        return translate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
