"""Says that a kind has no effect in a mesh, instead of saying nothing."""

from __future__ import annotations

from lateen.api.reading import INERT_KIND
from lateen.api.report import Report
from lateen.api.resource import ApiObject


def validate_inert(obj: ApiObject, report: Report) -> None:
    """One remark that the object is kept and not acted upon."""
    report.info(INERT_KIND, (), f"{obj.kind} is kept, but has no effect in a mesh")
