"""Traffic capture: which connections of a workload go through its proxy.

`CaptureConfig` holds Istio's parameters (`from_annotations` reads a pod's), `capture_rules` makes
the rules from them (pure), `lateen.capture.nft` writes rules into a network namespace.
"""

from lateen.capture.config import CaptureConfig, CaptureError, ProxyMatch, from_annotations
from lateen.capture.rules import Chain, Hook, Match, Rule, RuleSet, Verdict
from lateen.capture.sidecar import capture_rules

__all__ = [
    "CaptureConfig",
    "CaptureError",
    "Chain",
    "Hook",
    "Match",
    "ProxyMatch",
    "Rule",
    "RuleSet",
    "Verdict",
    "capture_rules",
    "from_annotations",
]
