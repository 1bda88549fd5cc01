"""security.istio.io: AuthorizationPolicy, PeerAuthentication, RequestAuthentication."""

from __future__ import annotations

from collections.abc import Mapping

from lateen.api.kinds import KindInfo
from lateen.api.security.authentication import PeerAuthentication, RequestAuthentication
from lateen.api.security.authentication_validation import (
    validate_peer_authentication,
    validate_request_authentication,
)
from lateen.api.security.authorization_policy import AuthorizationPolicy
from lateen.api.security.authorization_validation import validate_authorization_policy
from lateen.api.validate import Validator

GROUP = "security.istio.io"

KINDS = (
    KindInfo(
        group=GROUP,
        kind="AuthorizationPolicy",
        plural="authorizationpolicies",
        type=AuthorizationPolicy,
        versions=("v1", "v1beta1"),
        short_names=("ap",),
    ),
    KindInfo(
        group=GROUP,
        kind="PeerAuthentication",
        plural="peerauthentications",
        type=PeerAuthentication,
        versions=("v1", "v1beta1"),
        short_names=("pa",),
    ),
    KindInfo(
        group=GROUP,
        kind="RequestAuthentication",
        plural="requestauthentications",
        type=RequestAuthentication,
        versions=("v1", "v1beta1"),
        short_names=("ra",),
    ),
)

VALIDATORS: Mapping[tuple[str, str], Validator] = {
    (GROUP, "AuthorizationPolicy"): validate_authorization_policy,
    (GROUP, "PeerAuthentication"): validate_peer_authentication,
    (GROUP, "RequestAuthentication"): validate_request_authentication,
}

__all__ = [
    "GROUP",
    "KINDS",
    "VALIDATORS",
    "AuthorizationPolicy",
    "PeerAuthentication",
    "RequestAuthentication",
]
