"""The API over its Unix socket, as kubectl-like clients use it."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import Any

import pytest

from lateen.source.client import ApiError, ApiUnavailable, AsyncClient, Client, path_for
from tests.source.conftest import Api
from tests.source.objects import config_map, pod, service

Raw = dict[str, Any]
MAPS = path_for("v1", "configmaps", "default")
PODS = path_for("v1", "pods", "default")


async def patch(api: Api, path: str, body: object, kind: str = "merge-patch") -> Raw:
    """PATCH with a content type such as ``merge-patch``."""
    suffix = "yaml" if kind == "apply-patch" else "json"
    headers = {"Content-Type": f"application/{kind}+{suffix}"}
    result: Raw = await api.client.request("PATCH", path, body, headers)
    return result


async def refused(awaitable: Any) -> ApiError:
    """The error that a request is answered with."""
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def test_an_object_from_creation_to_deletion(api: Api) -> None:
    made = await api.client.request("POST", MAPS, config_map("a", k="1"))
    metadata = made["metadata"]
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert (metadata["generation"], metadata["namespace"]) == (1, "default")
    assert await api.client.request("GET", f"{MAPS}/a") == made
    changed = await patch(api, f"{MAPS}/a", {"data": {"k": "2"}})
    assert changed["metadata"]["generation"] == 2
    assert changed["metadata"]["uid"] == metadata["uid"]
    assert int(changed["metadata"]["resourceVersion"]) > int(metadata["resourceVersion"])
    await api.client.request("DELETE", f"{MAPS}/a")
    error = await refused(api.client.request("GET", f"{MAPS}/a"))
    assert (error.status, error.reason) == (404, "NotFound")
    assert 'configmaps "a" not found' in str(error)


async def test_errors_are_status_objects(api: Api) -> None:
    await api.client.request("POST", MAPS, config_map("a"))
    cases = [
        (api.client.request("POST", MAPS, config_map("a")), 409, "AlreadyExists"),
        (api.client.request("POST", MAPS, config_map("a", "other")), 400, "BadRequest"),
        (api.client.request("PUT", f"{MAPS}/a", config_map("b")), 400, "BadRequest"),
        (api.client.request("PUT", f"{MAPS}/missing", config_map("missing")), 404, "NotFound"),
        (api.client.request("POST", MAPS, {"metadata": {"name": "Not A Name"}}), 422, "Invalid"),
        (api.client.request("POST", MAPS, ["no object"]), 400, "BadRequest"),
        (api.client.request("GET", "/api/v1/nonsense"), 404, "NotFound"),
        (api.client.request("GET", "/nowhere/at/all/there/is"), 404, "NotFound"),
        (api.client.request("DELETE", MAPS), 405, "MethodNotAllowed"),
        (api.client.request("GET", f"{MAPS}?watch=1&resourceVersion=999"), 410, "Expired"),
        (api.client.request("GET", f"{MAPS}?watch=1&resourceVersion=x"), 400, "BadRequest"),
        (api.client.request("GET", f"{MAPS}?labelSelector=a+in+b"), 400, "BadRequest"),
        (patch(api, f"{MAPS}/a", {}, "apply-patch"), 400, "BadRequest"),
        (patch(api, f"{MAPS}/a", {}, "invented"), 415, "UnsupportedMediaType"),
        (patch(api, f"{MAPS}/a", [{"op": "remove", "path": "/x"}], "json-patch"), 422, "Invalid"),
        (patch(api, f"{MAPS}/a/status", {"status": "text"}), 422, "Invalid"),
        (api.client.request("POST", "/lateen/v1/apply", {"documents": [1]}), 400, "BadRequest"),
    ]
    for request, status, reason in cases:
        error = await refused(request)
        assert (error.status, error.reason) == (status, reason), error


async def test_a_body_that_is_not_json(api: Api) -> None:
    reader, writer = await asyncio.open_unix_connection(api.path)
    writer.write(
        f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Content-Length: 5\r\nConnection: close\r\n\r\n{oops".encode()
    )
    answer = await reader.read()
    writer.close()
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b'"reason":"BadRequest"' in answer


async def test_a_stale_resource_version_is_a_conflict(api: Api) -> None:
    made = await api.client.request("POST", MAPS, config_map("a", k="1"))
    await patch(api, f"{MAPS}/a", {"data": {"k": "2"}})
    error = await refused(api.client.request("PUT", f"{MAPS}/a", made))
    assert (error.status, error.reason) == (409, "Conflict")
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    assert (await refused(patch(api, f"{MAPS}/a", stale))).status == 409
    other = {"metadata": {"uid": "another"}}
    assert (await refused(patch(api, f"{MAPS}/a", other))).status == 409
    fresh = await api.client.request("GET", f"{MAPS}/a")
    fresh["data"] = {"k": "3"}
    assert (await api.client.request("PUT", f"{MAPS}/a", fresh))["data"] == {"k": "3"}


async def test_a_put_keeps_the_namespace_of_its_path(api: Api) -> None:
    path = path_for("v1", "configmaps", "elsewhere")
    await api.client.request("POST", path, config_map("a", "elsewhere"))
    raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    replaced = await api.client.request("PUT", f"{path}/a", raw)
    assert replaced["metadata"]["namespace"] == "elsewhere"


async def test_patches_of_labels_in_every_way(api: Api) -> None:
    await api.client.request("POST", PODS, pod("a", labels={"app": "a"}))
    labels = {"metadata": {"labels": {"x": "1"}}}
    for kind in ("merge-patch", "strategic-merge-patch"):
        found = await patch(api, f"{PODS}/a", labels, kind)
        assert found["metadata"]["labels"] == {"app": "a", "x": "1"}
    add = [{"op": "add", "path": "/metadata/labels/y", "value": "2"}]
    found = await patch(api, f"{PODS}/a", add, "json-patch")
    assert found["metadata"]["labels"] == {"app": "a", "x": "1", "y": "2"}
    image = {"spec": {"containers": [{"name": "app", "image": "app:2"}]}}
    found = await patch(api, f"{PODS}/a", image, "strategic-merge-patch")
    assert found["spec"]["containers"] == [{"name": "app", "image": "app:2"}]


async def test_dry_run_stores_nothing(api: Api) -> None:
    made = await api.client.request("POST", f"{MAPS}?dryRun=All", config_map("a"))
    assert made["metadata"]["uid"]
    assert api.store.revision == 0
    await api.client.request("POST", MAPS, config_map("a", k="1"))
    before = api.store.revision
    shown = await patch(api, f"{MAPS}/a?dryRun=All", {"data": {"k": "2"}})
    assert shown["data"] == {"k": "2"}
    await api.client.request("DELETE", f"{MAPS}/a?dryRun=All")
    assert api.store.revision == before
    assert (await refused(api.client.request("POST", f"{MAPS}?dryRun=x", {}))).status == 400


async def test_generated_names(api: Api) -> None:
    raw = config_map("x")
    raw["metadata"] = {"generateName": "run-"}
    names = {(await api.client.request("POST", MAPS, raw))["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("run-") for name in names)


async def test_status_is_written_only_by_its_own_subresource(api: Api) -> None:
    raw = {**pod("a"), "status": {"phase": "Running", "podIP": "10.0.0.1"}}
    made = await api.client.request("POST", PODS, raw)
    assert "status" not in made
    shown = await patch(api, f"{PODS}/a/status", {"status": {"phase": "Pending", "reason": "x"}})
    assert shown["status"] == {"phase": "Pending", "reason": "x"}
    shown = await patch(api, f"{PODS}/a/status", {"status": {"reason": None}})
    assert shown["status"] == {"phase": "Pending"}
    assert shown["metadata"]["generation"] == 1
    kept = await patch(api, f"{PODS}/a", {"status": {"phase": "Running"}})
    assert kept["status"] == {"phase": "Pending"}
    whole = await api.client.request("PUT", f"{PODS}/a/status", {"status": {"reason": "y"}})
    assert whole["status"] == {"reason": "y"}


async def test_server_side_apply_creates_then_owns_its_fields(api: Api) -> None:
    path = f"{MAPS}/a?fieldManager=one"
    await patch(api, path, {"data": {"k": "1", "gone": "1"}}, "apply-patch")
    other = f"{MAPS}/a?fieldManager=two"
    error = await refused(patch(api, other, {"data": {"k": "2"}}, "apply-patch"))
    assert (error.status, error.reason) == (409, "Conflict")
    await patch(api, other, {"data": {"theirs": "1"}}, "apply-patch")
    found = await patch(api, path, {"data": {"k": "1"}}, "apply-patch")
    assert found["data"] == {"k": "1", "theirs": "1"}
    forced = await patch(api, f"{other}&force=true", {"data": {"k": "2"}}, "apply-patch")
    assert forced["data"] == {"k": "2"}


async def test_lists_select_by_label_field_and_namespace(api: Api) -> None:
    for name, namespace, app in (("a", "one", "web"), ("b", "one", "api"), ("c", "two", "web")):
        raw = pod(name, namespace, labels={"app": app})
        await api.client.request("POST", path_for("v1", "pods", namespace), raw)

    async def names(path: str) -> list[str]:
        listing = await api.client.request("GET", path)
        assert listing["kind"] == "PodList"
        return [item["metadata"]["name"] for item in listing["items"]]

    assert await names("/api/v1/pods?limit=1") == ["a", "b", "c"]
    assert await names("/api/v1/namespaces/one/pods") == ["a", "b"]
    assert await names("/api/v1/pods?labelSelector=app%3Dweb") == ["a", "c"]
    assert await names("/api/v1/pods?labelSelector=app+in+(api,x)") == ["b"]
    assert await names("/api/v1/pods?fieldSelector=metadata.name%3Dc") == ["c"]


async def test_namespaces_come_into_being_with_injection(api: Api) -> None:
    await api.client.request("POST", path_for("v1", "configmaps", "new"), config_map("a", "new"))
    made = await api.client.request("GET", "/api/v1/namespaces/new")
    assert made["metadata"]["labels"] == {
        "kubernetes.io/metadata.name": "new",
        "istio-injection": "enabled",
    }
    declared = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "plain"}}
    made = await api.client.request("POST", "/api/v1/namespaces", declared)
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "plain"}


async def test_deleting_a_namespace_deletes_what_is_in_it(api: Api) -> None:
    await api.client.request("POST", path_for("v1", "configmaps", "gone"), config_map("a", "gone"))
    await api.client.request("POST", MAPS, config_map("stays"))
    await api.client.request("DELETE", "/api/v1/namespaces/gone")
    left = {(stored.key.kind, stored.key.name) for stored in api.store.all()}
    assert left == {("Namespace", "default"), ("ConfigMap", "stays")}


async def test_a_controller_cannot_revive_what_was_deleted(api: Api) -> None:
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gone", "controller": True}
    raw = pod("a", "gone", ownerReferences=[owner])
    error = await refused(api.client.request("POST", path_for("v1", "pods", "gone"), raw))
    assert error.status == 409
    assert api.store.all() == []


async def test_a_running_pod_is_deleted_gracefully(api: Api) -> None:
    await api.client.request("POST", PODS, pod("a"))
    await patch(api, f"{PODS}/a/status", {"status": {"phase": "Running"}})
    marked = await api.client.request("DELETE", f"{PODS}/a")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert marked["metadata"]["deletionTimestamp"] > marked["metadata"]["creationTimestamp"]
    # It may be shortened, not lengthened, and an update does not take the mark away.
    sooner = await api.client.request("DELETE", f"{PODS}/a", {"gracePeriodSeconds": 5})
    assert sooner["metadata"]["deletionGracePeriodSeconds"] == 5
    later = await api.client.request("DELETE", f"{PODS}/a?gracePeriodSeconds=60")
    assert later["metadata"]["deletionGracePeriodSeconds"] == 5
    labelled = await patch(api, f"{PODS}/a", {"metadata": {"labels": {"x": "y"}}})
    assert labelled["metadata"]["deletionTimestamp"]
    wrong = {"gracePeriodSeconds": 0, "preconditions": {"uid": "another"}}
    assert (await refused(api.client.request("DELETE", f"{PODS}/a", wrong))).status == 409
    await api.client.request("DELETE", f"{PODS}/a?gracePeriodSeconds=0")
    assert (await refused(api.client.request("GET", f"{PODS}/a"))).status == 404


async def test_the_socket_is_private(api: Api) -> None:
    assert stat.S_IMODE(os.stat(api.path).st_mode) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
async def test_another_user_is_refused(api: Api) -> None:
    for folder in [api.path, *api.path.parents]:
        if folder.stat().st_uid == 0 and folder != folder.parent and "pytest" in str(folder):
            os.chmod(folder, folder.stat().st_mode | 0o077)

    def call() -> int:
        try:
            os.setresuid(65_534, 65_534, 65_534)
            Client(api.path).get("/version")
        except ApiError as error:
            return error.status % 256
        except ApiUnavailable:
            return 1
        return 0

    pid = os.fork()
    if pid == 0:
        os._exit(call())
    status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status[1]) == 403 % 256


async def test_history_tells_who_and_what(api: Api) -> None:
    await api.client.request("POST", MAPS, config_map("a", k="1"))
    await patch(api, f"{MAPS}/a", {"data": {"k": "2"}})
    path = "/lateen/v1/history?kind=ConfigMap&namespace=default&name=a&limit=nonsense"
    items = (await api.client.request("GET", path))["items"]
    assert [(item["verb"], item["object"]["data"]) for item in items] == [
        ("MODIFIED", {"k": "2"}),
        ("ADDED", {"k": "1"}),
    ]
    assert items[0]["who"].startswith(f"uid {os.getuid()} pid {os.getpid()}")


async def test_discovery(api: Api) -> None:
    groups = await api.client.request("GET", "/apis")
    names = {group["name"] for group in groups["groups"]}
    assert {"networking.istio.io", "security.istio.io", "apps"} <= names
    one = await api.client.request("GET", "/apis/networking.istio.io")
    assert one["preferredVersion"]["version"] == "v1"
    kinds = await api.client.request("GET", "/apis/networking.istio.io/v1")
    assert "virtualservices" in {entry["name"] for entry in kinds["resources"]}
    core = await api.client.request("GET", "/api/v1")
    assert "pods/status" in {entry["name"] for entry in core["resources"]}


async def test_the_blocking_client_does_the_same(api: Api) -> None:
    def work() -> list[Any]:
        api.blocking.request("POST", MAPS, config_map("a"))
        body = {"documents": [{"raw": service("s")}]}
        lines = list(api.blocking.lines("POST", "/lateen/v1/apply", body))
        with pytest.raises(ApiError, match="not found"):
            api.blocking.get(f"{MAPS}/name with spaces")
        return lines

    lines = await asyncio.to_thread(work)
    assert [line["result"] for line in lines] == ["created"]


async def test_no_server_is_said_plainly(tmp_path: Any) -> None:
    with pytest.raises(ApiUnavailable, match="nobody answers on"):
        Client(tmp_path / "none.sock").get("/version")
    with pytest.raises(ApiUnavailable, match="nobody answers on"):
        await AsyncClient(tmp_path / "none.sock").request("GET", "/version")


async def test_a_server_that_dies_in_the_middle_is_unavailable(tmp_path: Any) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        writer.close()

    path = tmp_path / "api.sock"
    async with await asyncio.start_unix_server(die, path):
        with pytest.raises(ApiUnavailable, match="broke"):
            await AsyncClient(path).request("GET", "/")
        with pytest.raises(ApiUnavailable, match="broke"):
            await asyncio.to_thread(Client(path).get, "/")
