"""The live view of `lateen up`: pods, readiness, mutual TLS, requests and success by edge."""

from __future__ import annotations

import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lateen.cli.columns import pod_phase, pod_ready, pod_restarts
from lateen.cli.mesh_state import MeshState
from lateen.cli.opening import say_open
from lateen.cli.output import DEFAULT_MESH, NOTE, out, say
from lateen.runtime.agent_client import AgentRefused, AgentUnavailable, http_get
from lateen.runtime.local import running_pid
from lateen.source.client import ApiError, ApiUnavailable, Client

METRICS_PORT = 15090
REFRESH_SECONDS = 1.0
TRAFFIC_INTERVAL = 0.4
_REQUESTS = re.compile(rb"^istio_requests_total\{([^}]*)\} (\d+)", re.MULTILINE)
_LABEL = re.compile(r'(?<!\w)(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Edge:
    """Requests from one workload to another."""

    source: str
    destination: str


@dataclass(slots=True)
class Counts:
    """Requests counted so far: all, those answered below 500, those over mutual TLS."""

    total: int = 0
    good: int = 0
    secure: int = 0

    def minus(self, other: Counts) -> Counts:
        """What came since ``other``."""
        return Counts(self.total - other.total, self.good - other.good, self.secure - other.secure)


def parse_requests(texts: Iterable[bytes]) -> dict[Edge, Counts]:
    """``istio_requests_total`` of several proxies, by edge.

    Requests come from the source's reporter (the destination's for clients outside the mesh), and
    whether they were encrypted from the destination's, the only one that knows.
    """
    edges: dict[Edge, Counts] = {}
    secure: dict[Edge, int] = {}
    for text in texts:
        for match in _REQUESTS.finditer(text):
            labels = dict(_LABEL.findall(match.group(1).decode(errors="replace")))
            edge = Edge(labels.get("source_workload", ""), labels.get("destination_workload", ""))
            count = int(match.group(2))
            outside = edge.source in ("", "unknown")
            if labels.get("reporter") == "destination":
                if labels.get("connection_security_policy") == "mutual_tls":
                    secure[edge] = secure.get(edge, 0) + count
                if not outside:
                    continue
            counts = edges.setdefault(edge, Counts())
            counts.total += count
            code = labels.get("response_code", "")
            if code.isdigit() and 0 < int(code) < 500:
                counts.good += count
    for edge, count in secure.items():
        if edge in edges:
            edges[edge].secure = count
    return edges


@dataclass(slots=True)
class View:
    """What is shown, and the counters before it, for rates."""

    state: MeshState
    info: dict[str, Any]
    began: float = field(default_factory=time.monotonic)
    before: dict[Edge, Counts] = field(default_factory=dict)
    before_at: float = 0.0
    pods: list[dict[str, Any]] = field(default_factory=list)
    rates: list[tuple[Edge, float, Counts]] = field(default_factory=list)
    trouble: str = ""

    def refresh(self) -> None:
        """Read pods and counters again."""
        try:
            self.pods = Client(self.state.api_socket, 5.0).get("/api/v1/pods")["items"]
            self.trouble = ""
        except (ApiUnavailable, ApiError, OSError):
            self.trouble = "the control plane does not answer; running traffic goes on without it"
        proxies = [p for p in self.pods if _has_proxy(p)]
        with ThreadPoolExecutor(max_workers=4) as pool:
            texts = [text for text in pool.map(self._scrape, proxies) if text]
        now, counts = time.monotonic(), parse_requests(texts)
        elapsed = max(now - self.before_at, 0.001)
        rates = []
        for edge, count in counts.items():
            since = count.minus(self.before.get(edge, Counts()))
            rates.append((edge, max(since.total, 0) / elapsed if self.before_at else 0.0, count))
        self.rates = sorted(rates, key=lambda rate: (rate[0].source, rate[0].destination))
        self.before, self.before_at = counts, now

    def _scrape(self, pod: dict[str, Any]) -> bytes:
        metadata = pod["metadata"]
        try:
            return http_get(
                self.state.agent_socket,
                metadata["namespace"],
                metadata["name"],
                METRICS_PORT,
                "/stats/prometheus",
                3.0,
            )
        except (AgentUnavailable, AgentRefused, OSError):
            return b""

    def render(self) -> Group:
        """The screen."""
        flag = "" if self.state.name == DEFAULT_MESH else f" --mesh {self.state.name}"
        head = Text(f"mesh {self.state.name}", style="bold")
        for url in self.info["urls"]:
            head.append(f"   {url}", style="cyan underline")
        parts: list[Any] = [head, Text(), self._pod_table(), Text(), self._edge_table()]
        if self.trouble:
            parts += [Text(), Text(f"‼ {self.trouble}", style="yellow")]
        parts += [
            Text(),
            Text(
                f"lateen ps{flag} · lateen status{flag} · lateen apply -f FILE{flag}"
                "   ·   Ctrl-C ends the mesh",
                style="dim",
            ),
        ]
        return Group(*parts)

    def _pod_table(self) -> Table:
        grid = _grid("POD", "READY", "STATUS", "RESTARTS", "IP")
        for pod in self.pods:
            phase = pod_phase(pod)
            ready = pod_ready(pod)
            whole = ready.split("/")[0] == ready.split("/")[1]
            colour = "green" if phase == "Running" and whole else "yellow"
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            grid.add_row(
                escape(name),
                ready,
                f"[{colour}]{phase}[/]",
                pod_restarts(pod),
                (pod.get("status") or {}).get("podIP") or "-",
            )
        return grid

    def _edge_table(self) -> Table:
        grid = _grid("FROM", "TO", "REQ/S", "SUCCESS", "REQUESTS", "mTLS")
        for edge, rate, count in self.rates:
            success = 100.0 * count.good / count.total if count.total else 100.0
            colour = "green" if success >= 99.95 else "yellow" if success > 95 else "red"
            outside = edge.source in ("", "unknown")
            share = count.secure / count.total if count.total else 0.0
            lock = "[dim]–[/]" if outside else "[green]✓[/]" if share > 0.999 else f"{share:.0%}"
            grid.add_row(
                "[dim]outside[/]" if outside else escape(edge.source),
                escape(edge.destination) if edge.destination != "unknown" else "[dim]unknown[/]",
                f"{rate:.1f}",
                f"[{colour}]{success:.1f} %[/]",
                str(count.total),
                lock,
            )
        if not self.rates:
            grid.add_row("[dim]no requests yet[/]", "", "", "", "", "")
        return grid


def show_until(
    state: MeshState,
    info: dict[str, Any],
    stopping: threading.Event,
    drive: str = "",
) -> None:
    """Show the view until the user or the node ends it; ``drive`` is a path requested meanwhile."""
    view = View(state, info)
    if drive and info["urls"]:
        url = info["urls"][0] + drive
        threading.Thread(target=_drive, args=(url, stopping), daemon=True).start()
        say(NOTE, f"requesting {url} a few times a second, so that there is something to see")
    if not out.is_terminal:
        say_open(info["urls"])
        while not stopping.wait(REFRESH_SECONDS) and running_pid(state.folder):
            pass
        return
    with Live(view.render(), console=out, auto_refresh=False, screen=False) as live:
        while not stopping.is_set() and running_pid(state.folder):
            view.refresh()
            live.update(view.render(), refresh=True)
            stopping.wait(REFRESH_SECONDS)


def send_some(url: str, count: int) -> int:
    """Request ``url`` a few times; how many answers were good."""
    return sum(_request(url) for _ in range(count))


def _drive(url: str, stopping: threading.Event) -> None:
    while not stopping.wait(TRAFFIC_INTERVAL):
        _request(url)


def _request(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _has_proxy(pod: dict[str, Any]) -> bool:
    return "sidecar.istio.io/status" in (pod["metadata"].get("annotations") or {})


_LEAST_WIDTH = {"STATUS": 9, "IP": 12, "SUCCESS": 7}


def _grid(*columns: str) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column in columns:
        right = column in ("REQ/S", "SUCCESS", "REQUESTS", "RESTARTS")
        # In a narrow terminal the long names give way, never the facts.
        least = None if column in ("POD", "FROM", "TO") else _LEAST_WIDTH.get(column, len(column))
        grid.add_column(column, no_wrap=True, justify="right" if right else "left", min_width=least)
    return grid
