"""Mutual TLS modes: what a workload's ports accept, and what clients may therefore send."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from lateen.ir.origin import Origin
from lateen.model.peer_authentication import EffectivePeerAuthentication
from lateen.translate import origins


class Mode(enum.StrEnum):
    """``PeerAuthentication`` modes that can hold for a port."""

    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


@dataclass(frozen=True, slots=True)
class WorkloadMtls:
    """The mode of a workload and of ports that differ, each with the policy that decided."""

    mode: Mode
    reason: Origin
    ports: tuple[int, ...] = ()
    """Ports of the workload with a mode of their own."""
    modes: tuple[Mode, ...] = ()

    def of_port(self, port: int) -> tuple[Mode, Origin]:
        """Mode of a port of the workload (0: of ports that are not named) and why."""
        for number, mode in zip(self.ports, self.modes, strict=True):
            if number == port:
                return mode, self.reason
        return self.mode, self.reason


def workload_mtls(effective: EffectivePeerAuthentication) -> WorkloadMtls:
    """What the PeerAuthentications of a workload come to."""
    if effective.sources:
        decided = effective.sources[-1]
        reason = origins.of_resource(decided, ("spec",), f"mutual TLS {Mode(effective.mode).value}")
    else:
        reason = origins.default("mutual TLS PERMISSIVE (no PeerAuthentication applies)")
    ports = tuple(sorted(effective.ports))
    return WorkloadMtls(
        mode=Mode(effective.mode),
        reason=reason,
        ports=ports,
        modes=tuple(Mode(effective.ports[port]) for port in ports),
    )


__all__ = ["Mode", "WorkloadMtls", "workload_mtls"]
