"""The generated class for delta requests, with the versions that proxies claim and the names that
they ask for left serialised.

Reading thousands of these costs more than everything else in a request (see
`lateen.serve.claims`). In the encoding a map is a repeated field of entries, and text is bytes, so
a message that declares both as repeated bytes reads what
``envoy.service.discovery.v3.DeltaDiscoveryRequest`` writes. `tests/serve/test_wire.py` holds the
other fields to the original.
"""

from __future__ import annotations

from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_SERIALISED = ("initial_resource_versions", "resource_names_subscribe")


def _declared() -> Any:  # noqa: ANN401 - generated classes have no types
    original = discovery_pb2.DeltaDiscoveryRequest.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="lateen/serve/request.proto", package="lateen.serve", syntax="proto3"
    )
    message = file.message_type.add()
    original.CopyToProto(message)
    message.name = "DeltaRequest"
    message.ClearField("nested_type")  # the entries of the map
    message.ClearField("options")
    for field in message.field:
        if field.name in _SERIALISED:
            field.type = _FIELD.TYPE_BYTES
            field.ClearField("type_name")
        elif field.type == _FIELD.TYPE_MESSAGE:
            file.dependency.append(original.fields_by_name[field.name].message_type.file.name)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("lateen.serve.DeltaRequest"))


DeltaRequestMessage = _declared()
"""Class of messages with the fields of ``DeltaDiscoveryRequest``."""
