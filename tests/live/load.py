"""Many HTTP requests over a few keep-alive connections; prints the counts as one JSON line.

Standard library only: tests run this text with ``python -c`` inside pods. Arguments: URL COUNT
CLIENTS [HEADER:VALUE...]. A COUNT that ends in ``s`` is a time in seconds, and ``rate:N`` among the
headers makes it N requests a second. SIGTERM ends it early, after the answers under way.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from urllib.parse import urlsplit


async def main(url: str, amount: str, clients: int, headers: list[str]) -> None:
    parts = urlsplit(url)
    rate = next((float(h[5:]) for h in headers if h.startswith("rate:")), 0.0)
    lines = [h.replace(":", ": ", 1) for h in headers if not h.startswith("rate:")]
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", *lines])
    request = f"{head}\r\n\r\n".encode()
    statuses: Counter[str] = Counter()
    pods: Counter[str] = Counter()
    failures: list[str] = []
    began = time.monotonic()
    timed = amount.endswith("s")
    limit = float(amount.rstrip("s"))
    issued = 0
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def client() -> None:
        nonlocal issued
        streams = None
        while not stopping.is_set() and (
            time.monotonic() - began < limit if timed else issued < limit
        ):
            if rate:
                pause = began + issued / rate - time.monotonic()
                issued += 1
                if pause > 0:
                    await asyncio.sleep(pause)
            else:
                issued += 1
            try:
                if streams is None:
                    streams = await asyncio.open_connection(parts.hostname, parts.port or 80)
                async with asyncio.timeout(15):
                    status, body, keep = await ask(*streams, request)
            except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as error:
                statuses["none"] += 1
                when = time.monotonic() - began
                failures.append(f"{when:.2f} s: {type(error).__name__}: {error}")
                if streams is not None:
                    streams[1].close()
                streams = None
                continue
            statuses[str(status)] += 1
            if status >= 400:
                failures.append(f"{time.monotonic() - began:.2f} s: {status}: {body[:200]!r}")
            pods[podname(body)] += 1
            if not keep:
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()

    await asyncio.gather(*(client() for _ in range(clients)))
    result = {
        "statuses": statuses,
        "pods": pods,
        "failures": failures[:20],
        "total": sum(statuses.values()),
        "seconds": time.monotonic() - began,
    }
    print(json.dumps(result))


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes, bool]:
    """One request and its whole answer: status, body, whether the connection may be used again."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {}
    for line in head[1:]:
        key, _, value = line.partition(":")
        fields[key.lower()] = value.strip()
    if fields.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(fields.get("content-length", "0")))
    return int(head[0].split()[1]), body, fields.get("connection") != "close"


def podname(body: bytes) -> str:
    """Who answered, as Bookinfo's reviews say in their body."""
    try:
        data = json.loads(body)
    except ValueError:
        return ""
    return str(data.get("podname", "")) if isinstance(data, dict) else ""


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
