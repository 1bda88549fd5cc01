"""One rule: what a finding's identifier stands for."""

from __future__ import annotations

from dataclasses import dataclass

from lateen.api.findings import Severity


@dataclass(frozen=True, slots=True)
class Rule:
    """A stable identifier with its meaning.

    ``title`` is a few words without a full stop, ``explanation`` one or two sentences that say
    what is wrong and what to do. ``severity`` is what a finding has unless a check says otherwise.
    """

    id: str
    title: str
    explanation: str
    severity: Severity = Severity.ERROR
