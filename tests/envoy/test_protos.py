"""The declarations that xds-protos lacks: needed still, and true to the binary."""

from __future__ import annotations

import importlib
import mmap

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from lateen.envoy import protos
from lateen.envoy.binary import envoy_path


@pytest.mark.parametrize("entry", protos.MISSING, ids=lambda entry: f"{entry.package}.{entry.name}")
def test_the_package_still_lacks_it(entry: protos.MissingMessage) -> None:
    """Remove the entry from `protos.MISSING` when this fails: xds-protos has caught up."""
    try:
        importlib.import_module(entry.file.removesuffix(".proto").replace("/", ".") + "_pb2")
        known = descriptor_pool.Default().FindMessageTypeByName(f"{entry.package}.{entry.name}")
    except (ImportError, KeyError):
        return
    present = {field.name for field in entry.fields} & set(known.fields_by_name)
    assert entry.fields, f"{entry.name} is in the package now"
    assert not present, f"the package has {present} now"


@pytest.mark.parametrize("entry", protos.MISSING, ids=lambda entry: f"{entry.package}.{entry.name}")
def test_numbers_are_those_of_the_binary(entry: protos.MissingMessage) -> None:
    if not entry.fields:
        return
    message = _message(_file_in_binary(entry.file), entry.name)
    known = {field.name: (field.number, field.type_name) for field in message.field}
    for field in entry.fields:
        assert known[field.name] == (field.number, field.type_name)


def _message(file: descriptor_pb2.FileDescriptorProto, name: str) -> descriptor_pb2.DescriptorProto:
    first, *rest = name.split(".")
    found = next(message for message in file.message_type if message.name == first)
    for part in rest:
        found = next(message for message in found.nested_type if message.name == part)
    return found


def _file_in_binary(name: str) -> descriptor_pb2.FileDescriptorProto:
    """Envoy carries the descriptors of its API as serialised ``FileDescriptorProto``."""
    encoded = name.encode()
    start_of_file = b"\n" + bytes((len(encoded),)) + encoded + b"\x12"
    with (
        envoy_path().open("rb") as binary,
        mmap.mmap(binary.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        start = content.find(start_of_file)
        assert start >= 0, f"{name} is not in the binary"
        end = _end(content, start)
        return descriptor_pb2.FileDescriptorProto.FromString(content[start:end])


_SYNTAX = 12


def _end(content: mmap.mmap, start: int) -> int:
    # `syntax` is the last field that protoc writes for proto3 files.
    position = start
    while True:
        tag, position = _varint(content, position)
        assert tag & 7 == 2, "not a FileDescriptorProto"
        length, position = _varint(content, position)
        position += length
        if tag >> 3 == _SYNTAX:
            return position


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
