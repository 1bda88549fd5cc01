"""Packets on a network interface: run inside a network namespace, prints what was seen as JSON.

Standard library only. Arguments: INTERFACE SECONDS. One record per TCP segment with payload:
source, destination, their ports and the first bytes in hex.
"""

import json
import socket
import struct
import sys
import time

ETH_P_ALL = 0x0003
ETH_P_IP = 0x0800


def main(interface: str, seconds: float) -> None:
    """Capture for a time; each segment counts once although the bridge shows it twice."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    packets.bind((interface, 0))
    print("capturing", flush=True)
    until = time.monotonic() + seconds
    seen: dict[str, dict[str, object]] = {}
    while (left := until - time.monotonic()) > 0:
        packets.settimeout(left)
        try:
            frame = packets.recv(65_536)
        except TimeoutError:
            break
        record = parse(frame)
        if record is not None:
            seen[json.dumps(record)] = record
    print(json.dumps(list(seen.values())))


def parse(frame: bytes) -> dict[str, object] | None:
    """A TCP segment over IPv4 that carries data (RFC 791, RFC 9293), else None."""
    if len(frame) < 54 or struct.unpack_from("!H", frame, 12)[0] != ETH_P_IP:
        return None
    start = 14
    header = (frame[start] & 0x0F) * 4
    total = struct.unpack_from("!H", frame, start + 2)[0]
    if frame[start + 9] != socket.IPPROTO_TCP:
        return None
    segment = frame[start + header : start + total]
    payload = segment[(segment[12] >> 4) * 4 :]
    if not payload:
        return None
    source_port, destination_port = struct.unpack_from("!HH", segment)
    return {
        "source": socket.inet_ntoa(frame[start + 12 : start + 16]),
        "destination": socket.inet_ntoa(frame[start + 16 : start + 20]),
        "ports": [source_port, destination_port],
        "sequence": struct.unpack_from("!I", segment, 4)[0],
        "text": payload[:2000].decode("latin-1"),
    }


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
