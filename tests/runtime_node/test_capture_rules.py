"""Capture parameters and the rules they make; the text is what `nft list ruleset` shows too."""

from __future__ import annotations

import pytest

from lateen.capture import CaptureConfig, CaptureError, ProxyMatch, capture_rules, from_annotations


def chain(config: CaptureConfig, name: str) -> list[str]:
    found = next(chain for chain in capture_rules(config).chains if chain.name == name)
    return [str(rule) for rule in found.rules]


def test_defaults_are_istios() -> None:
    config = CaptureConfig()
    assert chain(config, "inbound") == [
        "meta l4proto tcp th dport 15008 return",
        "meta l4proto tcp th dport 15090 return",
        "meta l4proto tcp th dport 15021 return",
        "meta l4proto tcp th dport 15020 return",
        "meta l4proto tcp jump in-redirect",
    ]
    assert chain(config, "in-redirect") == ["meta l4proto tcp redirect to :15006"]
    assert chain(config, "out-redirect") == ["meta l4proto tcp redirect to :15001"]
    outbound = chain(config, "outbound")
    assert outbound[:2] == [
        'oifname "lo" ip saddr 127.0.0.6/32 return',
        'oifname "lo" ip6 saddr ::6/128 return',
    ]
    assert outbound[-3:] == [
        "ip daddr 127.0.0.1/32 return",
        "ip6 daddr ::1/128 return",
        "meta l4proto tcp jump out-redirect",
    ]


def test_the_proxy_is_told_by_uid_and_gid_or_by_mark() -> None:
    by_uid = chain(CaptureConfig(), "outbound")
    assert "meta skuid 1337 return" in by_uid
    assert "meta skgid 1337 return" in by_uid
    assert 'oifname "lo" meta skuid != 1337 return' in by_uid
    by_mark = chain(CaptureConfig(proxy_match=ProxyMatch.MARK), "outbound")
    assert "meta mark 1337 return" in by_mark
    assert not [rule for rule in by_mark if "skuid" in rule]
    assert (
        'meta nfproto ipv4 oifname "lo" ip daddr != 127.0.0.1/32 meta l4proto tcp '
        "th dport != 15008 meta mark 1337 jump in-redirect"
    ) in by_mark


def test_listed_inbound_ports_replace_the_exclusions() -> None:
    config = CaptureConfig(include_inbound_ports=("8080", "9090"))
    assert chain(config, "inbound") == [
        "meta l4proto tcp th dport 15008 return",
        "meta l4proto tcp th dport 8080 jump in-redirect",
        "meta l4proto tcp th dport 9090 jump in-redirect",
    ]


def test_no_inbound_ports_means_no_inbound_capture() -> None:
    assert chain(CaptureConfig(include_inbound_ports=()), "prerouting") == []


def test_exclusions_come_before_inclusions() -> None:
    config = CaptureConfig(
        exclude_outbound_ports=("3306",),
        include_outbound_ports=("443",),
        exclude_outbound_ranges=("10.1.0.0/16", "fd00::/8"),
        include_outbound_ranges=("10.0.0.0/8",),
    )
    outbound = chain(config, "outbound")
    assert outbound[:2] == [
        "meta l4proto tcp th dport 3306 return",
        "meta l4proto udp th dport 3306 return",
    ]
    assert outbound[-4:] == [
        "ip daddr 10.1.0.0/16 return",
        "ip6 daddr fd00::/8 return",
        "meta l4proto tcp th dport 443 jump out-redirect",
        "meta l4proto tcp ip daddr 10.0.0.0/8 jump out-redirect",
    ]


def test_dns_goes_to_the_agent_except_from_the_proxy() -> None:
    outbound = chain(CaptureConfig(dns_port=15053), "outbound")
    own = outbound.index("meta skuid 1337 return")
    for protocol in ("tcp", "udp"):
        rule = f"meta l4proto {protocol} th dport 53 redirect to :15053"
        assert outbound.index(rule) > own
    assert 'oifname "lo" meta l4proto tcp th dport != 53 meta skuid != 1337 return' in outbound


def test_loopback_in_the_ranges_captures_calls_to_oneself() -> None:
    outbound = chain(CaptureConfig(include_outbound_ranges=("127.0.0.0/8",)), "outbound")
    assert 'oifname "lo" meta skuid != 1337 return' not in outbound


def test_interfaces() -> None:
    config = CaptureConfig(exclude_interfaces=("eth1",), virtual_interfaces=("tap0",))
    assert chain(config, "prerouting") == [
        'iifname "eth1" return',
        'iifname "tap0" meta l4proto tcp jump out-redirect',
        'iifname "tap0" return',
        "meta l4proto tcp jump inbound",
    ]
    assert chain(config, "output") == ['oifname "eth1" return', "jump outbound"]


def test_mode_none_captures_nothing() -> None:
    assert capture_rules(CaptureConfig(mode="NONE")).chains == ()


def test_annotations() -> None:
    config = from_annotations(
        {
            "traffic.sidecar.istio.io/includeInboundPorts": "*",
            "traffic.sidecar.istio.io/excludeInboundPorts": "9090, 15020",
            "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8,172.16.0.0/12",
            "traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.9.0.0/16",
            "traffic.sidecar.istio.io/excludeOutboundPorts": "6379",
            "traffic.sidecar.istio.io/includeOutboundPorts": "443",
            "traffic.sidecar.istio.io/excludeInterfaces": "eth1",
            "status.sidecar.istio.io/port": "15999",
        }
    )
    assert config.exclude_inbound_ports == ("15090", "15021", "15999", "9090", "15020")
    assert config.include_outbound_ranges == ("10.0.0.0/8", "172.16.0.0/12")
    assert config.exclude_outbound_ranges == ("10.9.0.0/16",)
    assert config.exclude_outbound_ports == ("6379",)
    assert config.include_outbound_ports == ("443",)
    assert config.exclude_interfaces == ("eth1",)
    assert from_annotations({}) == CaptureConfig()
    none = from_annotations({"sidecar.istio.io/interceptionMode": "NONE"})
    assert none.mode == "NONE"
    empty = from_annotations({"traffic.sidecar.istio.io/includeInboundPorts": ""})
    assert empty.include_inbound_ports == ()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("excludeOutboundPorts", "http", "'http' is not one of port numbers (1 to 65535)"),
        ("excludeInboundPorts", "70000", "'70000' is not one of port numbers (1 to 65535)"),
        ("includeOutboundIPRanges", "10.0.0.0/99", "'10.0.0.0/99' is not an address range"),
        ("excludeOutboundIPRanges", "*", "'*' is not an address range such as 10.0.0.0/8"),
    ],
)
def test_a_wrong_annotation_is_named(name: str, value: str, message: str) -> None:
    annotation = f"traffic.sidecar.istio.io/{name}"
    with pytest.raises(CaptureError) as raised:
        from_annotations({annotation: value})
    assert str(raised.value).startswith(f"annotation {annotation}: {message}")


def test_tproxy_is_refused_with_the_alternative() -> None:
    with pytest.raises(CaptureError, match="'TPROXY' is not supported; use REDIRECT or NONE"):
        from_annotations({"sidecar.istio.io/interceptionMode": "TPROXY"})
