"""Envoy messages, among them those which xds-protos does not have yet.

xds-protos is generated from an older Envoy API than the pinned binary reads. The missing fields
and messages are declared here with the full names and numbers of the binary's own descriptors.
They live in a descriptor pool of their own, in which every file that the package has is present
too, so `POOL` decodes all that this package emits. Serialised bytes pass freely between the two
pools. `tests/envoy/test_protos.py` fails when the package catches up with an entry.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
TYPE_PREFIX = "type.googleapis.com/"


class MissingField(NamedTuple):
    """One field of a message: ``type_name`` is empty for scalars."""

    name: str
    number: int
    type: int
    type_name: str = ""
    repeated: bool = False


class MissingMessage(NamedTuple):
    """A message, or fields of one that the package has; ``name`` may be nested (``A.B``)."""

    file: str
    package: str
    name: str
    fields: tuple[MissingField, ...] = ()
    imports: tuple[str, ...] = ()


_WRAPPERS = "google/protobuf/wrappers.proto"
_UINT32 = ".google.protobuf.UInt32Value"
_STATS = "envoy/extensions/access_loggers/stats/v3/stats.proto"
_TRANSFORM = "envoy/extensions/matching/actions/transform_stat/v3/transform_stat.proto"
_SET_STATE = "envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.proto"

MISSING: tuple[MissingMessage, ...] = (
    MissingMessage(
        "envoy/type/v3/scope.proto",
        "envoy.type.v3",
        "Scope",
        (
            MissingField("max_counters", 1, _FIELD.TYPE_MESSAGE, _UINT32),
            MissingField("max_gauges", 2, _FIELD.TYPE_MESSAGE, _UINT32),
            MissingField("max_histograms", 3, _FIELD.TYPE_MESSAGE, _UINT32),
            MissingField("enable_eviction", 4, _FIELD.TYPE_BOOL),
            MissingField("prefix", 5, _FIELD.TYPE_STRING),
            MissingField("sharing_name", 6, _FIELD.TYPE_STRING),
        ),
        (_WRAPPERS,),
    ),
    MissingMessage(
        _STATS,
        "envoy.extensions.access_loggers.stats.v3",
        "Config",
        (MissingField("stats_scope", 6, _FIELD.TYPE_MESSAGE, ".envoy.type.v3.Scope"),),
        ("envoy/type/v3/scope.proto",),
    ),
    MissingMessage(
        _STATS,
        "envoy.extensions.access_loggers.stats.v3",
        "Config.Tag",
        (MissingField("rules", 3, _FIELD.TYPE_MESSAGE, ".xds.type.matcher.v3.Matcher"),),
        ("xds/type/matcher/v3/matcher.proto",),
    ),
    MissingMessage(
        _TRANSFORM,
        "envoy.extensions.matching.actions.transform_stat.v3",
        "TransformStat",
        (
            MissingField(
                "update_tag",
                3,
                _FIELD.TYPE_MESSAGE,
                ".envoy.extensions.matching.actions.transform_stat.v3.TransformStat.UpdateTag",
            ),
        ),
    ),
    MissingMessage(
        _TRANSFORM,
        "envoy.extensions.matching.actions.transform_stat.v3",
        "TransformStat.UpdateTag",
        (MissingField("new_tag_value", 2, _FIELD.TYPE_STRING),),
    ),
    MissingMessage(
        "envoy/extensions/matching/common_inputs/stats/v3/stats.proto",
        "envoy.extensions.matching.common_inputs.stats.v3",
        "StatTagValueInput",
    ),
    MissingMessage(
        _SET_STATE,
        "envoy.extensions.filters.network.set_filter_state.v3",
        "Config",
        (
            MissingField(
                "on_downstream_tls_handshake",
                2,
                _FIELD.TYPE_MESSAGE,
                ".envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue",
                repeated=True,
            ),
        ),
    ),
    MissingMessage(
        "envoy/extensions/formatter/cel/v3/cel.proto",
        "envoy.extensions.formatter.cel.v3",
        "Cel",
        (
            MissingField(
                "cel_config", 1, _FIELD.TYPE_MESSAGE, ".envoy.config.core.v3.CelExpressionConfig"
            ),
        ),
        ("envoy/config/core/v3/cel.proto",),
    ),
)

_MODULES = (
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    _STATS,
    _SET_STATE,
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/bootstrap/internal_listener/v3/internal_listener.proto",
    "envoy/extensions/filters/common/matcher/action/v3/skip_action.proto",
    "envoy/extensions/common/matching/v3/extension_matcher.proto",
    "envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster.proto",
    "envoy/extensions/filters/http/cors/v3/cors.proto",
    "envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
    "envoy/extensions/filters/http/lua/v3/lua.proto",
    "envoy/extensions/filters/http/on_demand/v3/on_demand.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/jwt_authn/v3/config.proto",
    "envoy/extensions/filters/http/ext_authz/v3/ext_authz.proto",
    "envoy/extensions/filters/network/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/http/set_filter_state/v3/set_filter_state.proto",
    "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
    "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/formatter/cel/v3/cel.proto",
    "envoy/extensions/matching/common_inputs/stats/v3/stats.proto",
    "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.proto",
    "envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
    "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto",
    "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "envoy/extensions/upstreams/tcp/v3/tcp_protocol_options.proto",
    "envoy/extensions/wasm/v3/wasm.proto",
    "envoy/service/discovery/v3/discovery.proto",
    "envoy/type/matcher/v3/http_inputs.proto",
)
"""Files of the messages that this package writes inside ``Any``; imports follow by themselves."""


def _module(file: str) -> Any:  # noqa: ANN401 - generated modules have no types
    return importlib.import_module(file.removesuffix(".proto").replace("/", ".") + "_pb2")


class _PoolBuilder:
    def __init__(self) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        self._done: set[str] = set()
        self._missing: dict[str, list[MissingMessage]] = {}
        for entry in MISSING:
            self._missing.setdefault(entry.file, []).append(entry)

    def add(self, file: str) -> None:
        if file in self._done:
            return
        self._done.add(file)
        proto = descriptor_pb2.FileDescriptorProto()
        try:
            descriptor_pool.Default().FindFileByName(file).CopyToProto(proto)
        except KeyError:
            proto.name, proto.syntax = file, "proto3"
        for entry in self._missing.get(file, ()):
            _complete(proto, entry)
        for dependency in proto.dependency:
            self.add(dependency)
        self.pool.AddSerializedFile(proto.SerializeToString())


def _complete(proto: descriptor_pb2.FileDescriptorProto, entry: MissingMessage) -> None:
    proto.package = entry.package
    proto.dependency.extend(file for file in entry.imports if file not in proto.dependency)
    messages: Any = proto.message_type
    found: Any = None
    for part in entry.name.split("."):
        found = next((known for known in messages if known.name == part), None)
        if found is None:
            found = messages.add(name=part)
        messages = found.nested_type
    known_fields = {known.name for known in found.field}
    for field in entry.fields:
        if field.name not in known_fields:
            found.field.add(
                name=field.name,
                number=field.number,
                type=field.type,
                type_name=field.type_name or None,
                label=_FIELD.LABEL_REPEATED if field.repeated else _FIELD.LABEL_OPTIONAL,
            )


@functools.cache
def pool() -> descriptor_pool.DescriptorPool:
    """All messages that this package writes, complete, made on first use."""
    for file in _MODULES:
        _module(file)
    builder = _PoolBuilder()
    for entry in MISSING:
        builder.add(entry.file)
    for file in _MODULES:
        builder.add(file)
    return builder.pool


def message_class(full_name: str) -> type[message.Message]:
    """The class of a message in `pool`. Raises ``KeyError`` for an unknown name."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(full_name))


def from_dict(full_name: str, value: dict[str, Any]) -> bytes:
    """Serialise a message written as its proto3 JSON; for parts that are made once a process.

    Raises ``google.protobuf.json_format.ParseError`` when a field does not exist.
    """
    parsed = json_format.ParseDict(value, message_class(full_name)(), descriptor_pool=pool())
    _order_packed_maps(parsed)
    return parsed.SerializeToString(deterministic=True)


def _order_packed_maps(value: message.Message) -> None:
    """Serialise each nested ``Any`` again: `json_format` packs maps in an order that differs from
    process to process, and equal configuration must be equal bytes."""
    if value.DESCRIPTOR.full_name == "google.protobuf.Any":
        packed: Any = value
        inner = message_class(packed.type_url.rpartition("/")[2]).FromString(packed.value)
        _order_packed_maps(inner)
        packed.value = inner.SerializeToString(deterministic=True)
        return
    for field, content in value.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for part in content.values():
                    _order_packed_maps(part)
        elif isinstance(content, message.Message):
            _order_packed_maps(content)
        else:
            for part in content:
                _order_packed_maps(part)


def to_dict(full_name: str, body: bytes) -> dict[str, Any]:
    """A serialised message as proto3 JSON with the field names of the ``.proto`` files."""
    parsed = message_class(full_name).FromString(body)
    result: dict[str, Any] = _plain(
        json_format.MessageToDict(parsed, preserving_proto_field_name=True, descriptor_pool=pool())
    )
    return result


def _plain(value: Any, sort: bool = False) -> Any:  # noqa: ANN401 - JSON
    # json_format yields OrderedDict for Any, which YAML writers do not take for a mapping, and
    # maps in an order that differs from process to process.
    if isinstance(value, dict):
        items = sorted(value.items()) if sort else value.items()
        return {key: _plain(item, sort or key in _MAPS) for key, item in items}
    return [_plain(item, sort) for item in value] if isinstance(value, list) else value


_MAPS = frozenset(
    {
        "filter_metadata",
        "json_format",
        "match",
        "metadata",
        "typed_extension_protocol_options",
        "typed_filter_metadata",
        "typed_per_filter_config",
        "named_endpoints",
    }
)
"""Fields that are maps or hold ``Struct``; all below them is written in the order of its names."""
