"""The table of what has an effect is complete."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from docs.tools.rules import all_rules
from lateen.api.core.service import ServiceSpec
from lateen.api.networking.destination_rule import DestinationRuleSpec
from lateen.api.networking.gateway import GatewaySpec
from lateen.api.networking.service_entry import ServiceEntrySpec
from lateen.api.networking.sidecar import SidecarSpec
from lateen.api.networking.virtual_service import VirtualServiceSpec
from lateen.api.networking.workload_entry import WorkloadEntrySpec
from lateen.translate import rules
from lateen.translate.coverage import FIELDS

_SPECS = (
    VirtualServiceSpec,
    DestinationRuleSpec,
    GatewaySpec,
    SidecarSpec,
    ServiceEntrySpec,
    WorkloadEntrySpec,
    ServiceSpec,
)
_SELECTORS = {"LabelsSelector", "MatchLabelsSelector"}


def messages(info: msgspec.inspect.Type) -> Iterator[type]:
    """Every message type below a field type."""
    if isinstance(info, msgspec.inspect.StructType):
        yield info.cls
        for field in info.fields:
            yield from messages(field.type)
    elif isinstance(info, msgspec.inspect.UnionType):
        for option in info.types:
            yield from messages(option)
    elif isinstance(info, msgspec.inspect.ListType):
        yield from messages(info.item_type)
    elif isinstance(info, msgspec.inspect.DictType):
        yield from messages(info.value_type)


REACHABLE = sorted(
    {
        found
        for spec in _SPECS
        for found in messages(msgspec.inspect.type_info(spec))
        if found.__name__ not in _SELECTORS
    },
    key=lambda found: (found.__module__, found.__name__),
)


@pytest.mark.parametrize("message", REACHABLE, ids=lambda message: message.__name__)
def test_every_field_is_listed(message: type) -> None:
    listed = FIELDS[message]
    fields = {field.name for field in msgspec.structs.fields(message)}
    assert listed.effective | {name for name, _ in (*listed.without, *listed.quiet)} == fields


def test_no_message_is_listed_that_nothing_uses() -> None:
    assert set(FIELDS) <= set(REACHABLE)


def test_rules_are_known() -> None:
    assert {rule.id for rule in rules.RULES} <= set(all_rules())
