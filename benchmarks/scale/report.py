"""Results as a table and as plots (SVG, written by hand: no library is needed to draw a line)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from benchmarks.scale.scenarios import Result

_WIDTH, _HEIGHT = 760, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 40, 50
_COLOURS = (
    "#2563eb",
    "#dc2626",
    "#059669",
    "#d97706",
    "#7c3aed",
    "#0891b2",
    "#be185d",
    "#4d7c0f",
    "#475569",
)

Points = Sequence[tuple[float, float]]


def table(results: Iterable[Result]) -> str:
    """One line per result, for people: services, proxies, p50 / p99 of the times."""
    lines = [
        f"{'ms: p50 / p99':22}{'S':>6}{'N':>6}{'first ACK':>17}{'last ACK':>17}{'proxies':>9}"
        f"{'CPU s':>8}{'RSS MB':>8}{'MB sent':>9}{'resources':>11}{'translated':>12}"
    ]
    for r in results:
        first = f"{r.first_ack_ms.p50:.0f} / {r.first_ack_ms.p99:.0f}"
        last = f"{r.last_ack_ms.p50:.0f} / {r.last_ack_ms.p99:.0f}"
        translations = "-" if r.translations is None else f"{r.translations:.1f}"
        lines.append(
            f"{r.scenario:22}{r.size.services:>6}{r.size.proxies:>6}{first:>17}{last:>17}"
            f"{r.proxies_reached:>9}{r.server_cpu_s:>8.2f}{r.server_rss_mb:>8.0f}"
            f"{r.bytes_sent / 1e6:>9.1f}{r.resources_sent:>11}{translations:>12}"
        )
        if r.extra:
            lines.append("    " + ", ".join(f"{name} {value:g}" for name, value in r.extra.items()))
        lines += [f"    ! {error}" for error in r.errors]
    return "\n".join(lines)


def scaling_plots(results: Sequence[Result]) -> dict[str, str]:
    """Plots over the number of proxies, one line per scenario and number of services, by file
    name."""
    wanted: tuple[tuple[str, str, Callable[[Result], float]], ...] = (
        ("last-ack", "change to last ACK (p50, ms)", lambda r: r.last_ack_ms.p50),
        ("cpu", "server CPU per change (s)", lambda r: r.server_cpu_s),
        ("memory", "server memory (MB)", lambda r: r.server_rss_mb),
        ("bytes", "sent per change (MB)", lambda r: r.bytes_sent / 1e6),
    )
    made = {}
    for name, label, value in wanted:
        lines: dict[str, list[tuple[float, float]]] = {}
        for result in results:
            line = f"{result.scenario}, S={result.size.services}"
            lines.setdefault(line, []).append((result.size.proxies, value(result)))
        made[f"scale-{name}.svg"] = plot(label, "proxies", {k: sorted(v) for k, v in lines.items()})
    return made


def plot(title: str, x_label: str, lines: Mapping[str, Points]) -> str:
    """An SVG with a line for each entry; both axes are linear and begin at zero."""
    points = [point for line in lines.values() for point in line]
    x_top = _round_up(max((x for x, _ in points), default=1.0))
    y_top = _round_up(max((y for _, y in points), default=1.0))
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(_LEFT + x / x_top * inner_width, 1),
            round(_TOP + (1 - y / y_top) * inner_height, 1),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="15">{escape(title)}</text>',
        f'<text x="{_LEFT + inner_width / 2}" y="{_HEIGHT - 12}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
    ]
    for step in range(5):
        x, y = x_top * step / 4, y_top * step / 4
        (x_at, bottom), (left, y_at) = place(x, 0), place(0, y)
        parts.append(
            f'<line x1="{left}" y1="{y_at}" x2="{_LEFT + inner_width}" y2="{y_at}" stroke="#ddd"/>'
            f'<text x="{left - 6}" y="{y_at + 4}" text-anchor="end">{y:g}</text>'
            f'<text x="{x_at}" y="{bottom + 18}" text-anchor="middle">{x:g}</text>'
        )
    for index, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        places = [place(x, y) for x, y in line]
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(
            f'<text x="{_LEFT + inner_width + 8}" y="{_TOP + 14 * index + 8}" fill="{colour}" '
            f'font-size="10">{escape(name)}</text>'
        )
    return "\n".join((*parts, "</svg>", ""))


def _round_up(value: float) -> float:
    """The next number of the form 1, 2, 4 or 8 times a power of ten."""
    base = 1.0
    while base > value:
        base /= 10
    while base * 10 <= value:
        base *= 10
    return next((base * k for k in (1, 2, 4, 8) if base * k >= value), base * 10)
