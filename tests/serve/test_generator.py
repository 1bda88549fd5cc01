"""What is updated incrementally equals what is made from scratch."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lateen.api.resource import Resource
from lateen.model.change import Change
from lateen.model.discovery import ResourceSet
from lateen.model.proxies import proxy_of
from lateen.model.snapshot import EMPTY, apply
from lateen.serve.generator import MeshGenerator
from tests.serve.mesh import parsed


def service(name: str, headless: bool) -> Resource:
    spec: dict[str, object] = {
        "selector": {"app": name},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    }
    if headless:
        spec["clusterIP"] = "None"
    else:
        spec["clusterIP"] = "10.96.0.10"
    meta = {"name": name, "namespace": "default"}
    return parsed({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})


def pod(name: str, app: str, ready: bool, account: str, number: int) -> Resource:
    meta = {"name": name, "namespace": "default", "labels": {"app": app}}
    return parsed(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": {
                "serviceAccountName": account,
                "containers": [{"name": "app", "image": "x"}, {"name": "istio-proxy"}],
            },
            "status": {
                "phase": "Running",
                "podIP": f"10.0.0.{number}",
                "conditions": [{"type": "Ready", "status": str(ready)}],
            },
        }
    )


def versions(resources: ResourceSet) -> dict[str, dict[str, str]]:
    return {
        kind: {name: item.version for name, item in items.items()}
        for kind, items in resources.items()
    }


POD = st.tuples(
    st.sampled_from(["one", "two", "three"]),
    st.sampled_from(["a", "b", "other"]),
    st.booleans(),
    st.sampled_from(["default", "x"]),
)
NUMBERS = {"one": 1, "two": 2, "three": 3}
STEP: st.SearchStrategy[Change] = st.one_of(
    POD.map(lambda item: _written(pod(*item, NUMBERS[item[0]]))),
    st.sampled_from(sorted(NUMBERS)).map(
        lambda name: Change(pod(name, "a", True, "default", 1).key, None)
    ),
    st.tuples(st.sampled_from(["a", "b"]), st.booleans()).map(lambda i: _written(service(*i))),
)


def _written(resource: Resource) -> Change:
    return Change(resource.key, resource)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, max_size=8))
def test_incremental_equals_from_scratch(steps: list[Change]) -> None:
    generator = MeshGenerator()
    client = pod("client", "client", True, "default", 99)
    snapshot, _ = apply(EMPTY, [Change(client.key, client)])
    scope = generator.scope_of(snapshot, proxy_of(snapshot, client))
    resources = generator.generate(snapshot, scope)
    for change in steps:
        snapshot, changed = apply(snapshot, [change])
        resources = generator.update(snapshot, scope, resources, changed)
        assert versions(resources) == versions(generator.generate(snapshot, scope))
