"""Delegation between VirtualServices: one rule of the root becomes the delegate's rules."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from msgspec import structs

from lateen.api.networking.virtual_service import HTTPMatchRequest, HTTPRoute, StringMatch


def merge_routes(root: HTTPRoute, delegate: HTTPRoute) -> HTTPRoute | None:
    """The rule that follows from ``root`` delegating to a VirtualService with ``delegate``.

    Conditions of both must hold; what both set, the delegate decides. None when no pair of
    their matches is compatible (Istio ``HTTPRoute.delegate``).
    """
    match = merge_matches(root.match, delegate.match)
    if match is None:
        return None
    return structs.replace(
        delegate,
        name=_joined(root.name, delegate.name),
        match=match,
        rewrite=delegate.rewrite or root.rewrite,
        direct_response=delegate.direct_response or root.direct_response,
        timeout=delegate.timeout if delegate.timeout is not None else root.timeout,
        retries=delegate.retries or root.retries,
        fault=delegate.fault or root.fault,
        mirror=delegate.mirror or root.mirror,
        mirrors=delegate.mirrors or root.mirrors,
        mirror_percent=(
            delegate.mirror_percent if delegate.mirror_percent is not None else root.mirror_percent
        ),
        mirror_percentage=delegate.mirror_percentage or root.mirror_percentage,
        cors_policy=delegate.cors_policy or root.cors_policy,
        headers=delegate.headers or root.headers,
    )


def merge_matches(
    roots: list[HTTPMatchRequest], leaves: list[HTTPMatchRequest]
) -> list[HTTPMatchRequest] | None:
    """Every compatible pair of a root's and a delegate's match; None when there is none."""
    if not roots or not leaves:
        return roots or leaves
    merged = [
        merge_match(root, leaf) for root, leaf in product(roots, leaves) if not conflict(root, leaf)
    ]
    return merged or None


def conflict(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> bool:
    """Whether the two conditions are not known to be satisfiable together."""
    return (
        _text_conflict(root.uri, leaf.uri)
        or _text_conflict(root.scheme, leaf.scheme)
        or _text_conflict(root.method, leaf.method)
        or _text_conflict(root.authority, leaf.authority)
        or _map_conflict(root.headers, leaf.headers)
        or _map_conflict(root.without_headers, leaf.without_headers)
        or _map_conflict(root.query_params, leaf.query_params)
        or root.ignore_uri_case != leaf.ignore_uri_case
        or bool(root.port and leaf.port and root.port != leaf.port)
        or bool(root.source_namespace and root.source_namespace != leaf.source_namespace)
        or any(
            root.source_labels.get(name, value) != value
            for name, value in leaf.source_labels.items()
        )
        or bool(root.gateways and not set(leaf.gateways) <= set(root.gateways))
    )


def _map_conflict(root: Mapping[str, StringMatch], leaf: Mapping[str, StringMatch]) -> bool:
    return any(_text_conflict(root.get(name), match) for name, match in leaf.items())


def _text_conflict(root: StringMatch | None, leaf: StringMatch | None) -> bool:
    if root is None or leaf is None:
        return False
    if root.regex is not None or leaf.regex is not None:
        return True
    if root.exact is not None:
        return leaf.exact != root.exact
    if root.prefix is not None:
        text = leaf.exact if leaf.exact is not None else leaf.prefix
        return text is None or not text.startswith(root.prefix)
    return False


def merge_match(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> HTTPMatchRequest:
    """Both conditions as one; they must not `conflict`."""
    return structs.replace(
        leaf,
        name=_joined(root.name, leaf.name),
        uri=leaf.uri or root.uri,
        scheme=leaf.scheme or root.scheme,
        method=leaf.method or root.method,
        authority=leaf.authority or root.authority,
        headers={**root.headers, **leaf.headers},
        without_headers={**root.without_headers, **leaf.without_headers},
        query_params={**root.query_params, **leaf.query_params},
        source_labels={**root.source_labels, **leaf.source_labels},
        port=leaf.port or root.port,
        gateways=leaf.gateways or root.gateways,
        source_namespace=leaf.source_namespace or root.source_namespace,
        stat_prefix=leaf.stat_prefix or root.stat_prefix,
    )


def _joined(root: str, leaf: str) -> str:
    return f"{root}-{leaf}" if root and leaf else root or leaf
