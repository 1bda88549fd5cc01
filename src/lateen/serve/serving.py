"""What every process of a control plane has, the first one and its replicas."""

from __future__ import annotations

from typing import Protocol

from lateen.model.snapshot import Snapshot
from lateen.serve.metrics import Metrics
from lateen.serve.push import DiscoveryServer


class Serving(Protocol):
    """What status and debug endpoints read."""

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot."""

    @property
    def server(self) -> DiscoveryServer:
        """The xDS server with its connections."""

    @property
    def metrics(self) -> Metrics:
        """This process' metrics."""

    @property
    def revision(self) -> int:
        """Store revision that the snapshot holds."""

    def push_everything(self) -> None:
        """Make every configuration from scratch and push what differs."""
