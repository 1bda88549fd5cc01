"""What Kubernetes promises a pod: probes, configuration, volumes, names, jobs, restarts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.mesh import Mesh, eventually

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: lab, labels: {istio-injection: enabled}}
"""


@pytest.fixture(scope="module")
def mesh(bookinfo: Mesh) -> Iterator[Mesh]:
    """The mesh with an injected namespace ``lab``."""
    bookinfo.apply_text(NAMESPACE)
    yield bookinfo
    bookinfo.delete_text(NAMESPACE)


def pod(name: str, container: str, spec: str = "", labels: str = "") -> str:
    """A Pod in ``lab``; ``container`` are further fields of its one container (flow YAML)."""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: lab, labels: {{app: {name}, {labels}}}}}
spec:
  terminationGracePeriodSeconds: 0
  {spec}
  containers:
    - {{name: main, image: busybox, {container}}}
"""


def state(mesh: Mesh, name: str) -> dict[str, Any]:
    """A pod's status."""
    found = mesh.run("get", "pod", name, "-n", "lab", "-o", "json", status=None)
    assert found.status == 0, found
    return dict(found.json().get("status") or {})


def is_ready(mesh: Mesh, name: str) -> bool:
    """A pod's condition Ready."""
    conditions = state(mesh, name).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def wait_ready(mesh: Mesh, name: str, timeout: float = 60) -> None:
    """Wait until a pod is ready; a failure shows its status and what the mesh says of it."""
    try:
        eventually(lambda: is_ready(mesh, name), timeout=timeout)
    except AssertionError:
        words = [mesh.run(*command, status=None).text for command in (("ps",), ("status",))]
        status = json.dumps(state(mesh, name), indent=1)
        raise AssertionError("\n".join((f"{name} is not ready:", status, *words))) from None


SERVER = (
    "import http.server,os,sys\\n"
    "class H(http.server.BaseHTTPRequestHandler):\\n"
    " def do_GET(self):\\n"
    "  self.send_response(200 if os.path.exists('/tmp/up') else 503)\\n"
    "  self.send_header('content-length','0');self.end_headers()\\n"
    " def log_message(self,*a): pass\\n"
    "http.server.HTTPServer(('0.0.0.0',8080),H).serve_forever()"
)
PROBES = {
    "http": "httpGet: {path: /, port: 8080}",
    "exec": "exec: {command: [test, -e, /tmp/up]}",
}


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_readiness_follows_the_probe(mesh: Mesh, kind: str) -> None:
    """Not ready until the application says so, ready soon after, and not ready again."""
    name = f"probe-{kind}"
    probe = f"readinessProbe: {{{PROBES[kind]}, periodSeconds: 1, failureThreshold: 1}}"
    text = pod(
        name, f'command: [python3, -c, "{SERVER}"], ports: [{{containerPort: 8080}}], {probe}'
    )
    with mesh.applied(text):
        eventually(lambda: state(mesh, name).get("phase") == "Running")
        assert not is_ready(mesh, name)
        mesh.exec(name, "touch", "/tmp/up", namespace="lab")
        eventually(lambda: is_ready(mesh, name))
        mesh.exec(name, "rm", "/tmp/up", namespace="lab")
        eventually(lambda: not is_ready(mesh, name))


def test_tcp_probe(mesh: Mesh) -> None:
    """A port that is open makes the pod ready, one that nobody opens does not."""
    good = pod("tcp-good", f'command: [python3, -c, "{SERVER}"], ' + tcp_probe(8080))
    bad = pod("tcp-bad", f'command: [python3, -c, "{SERVER}"], ' + tcp_probe(8081))
    with mesh.applied(good), mesh.applied(bad):
        wait_ready(mesh, "tcp-good")
        assert not is_ready(mesh, "tcp-bad")


def tcp_probe(port: int) -> str:
    """A readiness probe by TCP."""
    return f"readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}"


def test_grpc_probe(mesh: Mesh) -> None:
    """The standard health service is asked; the ext-authz sample has none, so it never is ready."""
    server = (
        "import grpc,time\\n"
        "from concurrent import futures\\n"
        "def h(request, context): return b'\\\\x08\\\\x01'\\n"
        "m={'Check': grpc.unary_unary_rpc_method_handler(h)}\\n"
        "s=grpc.server(futures.ThreadPoolExecutor(2))\\n"
        "s.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("
        "'grpc.health.v1.Health',m),))\\n"
        "s.add_insecure_port('0.0.0.0:9090');s.start();s.wait_for_termination()"
    )
    probe = "readinessProbe: {grpc: {port: %d}, periodSeconds: 1}"
    good = pod("grpc-good", f'command: [python, -c, "{server}"], ' + probe % 9090)
    bad = pod("grpc-bad", f'command: [python, -c, "{server}"], ' + probe % 9091)
    with mesh.applied(good), mesh.applied(bad):
        wait_ready(mesh, "grpc-good", timeout=20)
        assert not is_ready(mesh, "grpc-bad")


def test_liveness_probe_restarts(mesh: Mesh) -> None:
    probe = "livenessProbe: {exec: {command: [sh, -c, 'test ! -e /tmp/ill']}, periodSeconds: 1, "
    probe += "failureThreshold: 1}"
    with mesh.applied(pod("alive", f"command: [sleep, '1000'], {probe}")):
        wait_ready(mesh, "alive")
        mesh.exec("alive", "touch", "/tmp/ill", namespace="lab")
        eventually(lambda: main_status(mesh, "alive")["restartCount"] >= 1, timeout=30)


def main_status(mesh: Mesh, name: str) -> dict[str, Any]:
    """Status of the container ``main``."""
    found = [c for c in state(mesh, name).get("containerStatuses") or [] if c["name"] == "main"]
    assert found
    return dict(found[0])


def test_restart_back_off(mesh: Mesh) -> None:
    """A program that ends is started again, after growing pauses, and `ps` says so."""
    with mesh.applied(pod("crash", "command: [sh, -c, 'echo crashing; exit 3']")):
        eventually(lambda: main_status(mesh, "crash")["restartCount"] >= 2, timeout=30)

        def waits() -> bool:
            reason = (main_status(mesh, "crash")["state"].get("waiting") or {}).get("reason")
            return bool(reason == "CrashLoopBackOff")

        eventually(waits)
        assert main_status(mesh, "crash")["lastState"]["terminated"]["exitCode"] == 3
        assert "CrashLoopBackOff" in mesh.run("ps").out
        assert "crashing" in mesh.logs("crash", namespace="lab")


CONFIGURED = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: lab}
data: {COLOR: blue, motd: "hello\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: lab}
stringData: {password: s3cret}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: lab}
---
apiVersion: v1
kind: Pod
metadata: {name: configured, namespace: lab, labels: {app: configured, tier: back}}
spec:
  serviceAccountName: reader
  terminationGracePeriodSeconds: 0
  initContainers:
    - name: first
      image: busybox
      command: [sh, -c, "echo one > /work/order"]
      volumeMounts: [{name: work, mountPath: /work}]
    - name: second
      image: busybox
      command: [sh, -c, "echo two >> /work/order"]
      volumeMounts: [{name: work, mountPath: /work}]
  containers:
    - name: main
      image: busybox
      command: [sleep, "1000"]
      workingDir: /work
      envFrom: [{configMapRef: {name: settings}}]
      env:
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
        - {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
        - {name: GREETING, value: "$(COLOR) sky, $$(COLOR)"}
      volumeMounts:
        - {name: work, mountPath: /work}
        - {name: settings, mountPath: /etc/settings, readOnly: true}
        - {name: keys, mountPath: /etc/keys, readOnly: true}
        - {name: token, mountPath: /var/run/secrets/tokens, readOnly: true}
  volumes:
    - {name: work, emptyDir: {}}
    - {name: settings, configMap: {name: settings}}
    - {name: keys, secret: {secretName: keys, items: [{key: password, path: deep/pass}]}}
    - name: token
      projected:
        sources: [{serviceAccountToken: {path: token, audience: istio-ca}}]
"""


def test_configuration_of_a_container(mesh: Mesh) -> None:
    """Variables, files, order of init containers, working directory, service-account token."""

    def read(*argv: str) -> str:
        return mesh.exec("configured", *argv, namespace="lab").out

    with mesh.applied(CONFIGURED):
        wait_ready(mesh, "configured")
        address = state(mesh, "configured")["podIP"]
        environment = dict(line.partition("=")[::2] for line in read("env").splitlines())
        assert environment["COLOR"] == "blue"
        assert environment["PASSWORD"] == "s3cret"
        assert environment["ADDRESS"] == address
        assert environment["TIER"] == "back"
        assert environment["GREETING"] == "blue sky, $(COLOR)"
        assert environment["HOSTNAME"] == "configured"
        assert read("pwd").strip() == "/work"
        assert read("cat", "order").split() == ["one", "two"]
        assert read("cat", "/etc/settings/motd") == "hello\n"
        assert read("cat", "/etc/keys/deep/pass") == "s3cret"
        assert mesh.exec(
            "configured", "touch", "/etc/settings/x", namespace="lab", status=None
        ).status
        token = read("cat", "/var/run/secrets/tokens/token").strip()
        claims = token.split(".")[1]
        body = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        assert body["sub"] == "system:serviceaccount:lab:reader"
        assert "istio-ca" in body["aud"]


STATEFUL = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: lab}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: lab}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: httpbin
          image: lateen/httpbin:1
          readinessProbe: {httpGet: {path: /get, port: 8080}, periodSeconds: 1}
"""


def test_stateful_set_has_names(mesh: Mesh) -> None:
    """Pods db-0 and db-1 in order, each with its own name, the service's name with both."""
    with mesh.applied(STATEFUL):
        mesh.run("scale", "sts/db", "-n", "lab", "--replicas", "2")
        for name in ("db-0", "db-1"):
            address = state(mesh, name)["podIP"]
            assert resolve(mesh, f"{name}.db.lab") == {address}
            hostname = mesh.curl(f"http://{name}.db.lab:8080/hostname")
            assert hostname.status == 200, hostname
        both = {state(mesh, name)["podIP"] for name in ("db-0", "db-1")}
        assert resolve(mesh, "db.lab.svc.cluster.local") == both
        assert mesh.curl("http://db.lab:8080/get").status == 200


def resolve(mesh: Mesh, host: str, source: str = "deploy/sleep") -> set[str]:
    """IPv4 addresses of a name as a pod sees them."""
    script = (
        "import socket,sys;"
        "print(*{a[4][0] for a in socket.getaddrinfo(sys.argv[1],80,socket.AF_INET)})"
    )
    return set(mesh.exec(source, "python3", "-c", script, host).out.split())


NAMES = """
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: lab}
spec:
  type: ExternalName
  externalName: details.default.svc.cluster.local
  ports: [{port: 9080, name: http}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: books, namespace: lab}
spec:
  hosts: [books.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 9080}]
  endpoints: [{address: ADDRESS}]
"""


def test_names_that_are_no_pods(mesh: Mesh) -> None:
    """An ExternalName leads where it says; a ServiceEntry's host resolves and is served."""
    address = mesh.pod("details")["status"]["podIP"]
    with mesh.applied(NAMES.replace("ADDRESS", address)):
        assert mesh.curl("http://alias.lab:9080/details/0").status == 200
        assert resolve(mesh, "books.example.com")
        answer = mesh.curl("http://books.example.com/details/0")
        assert (answer.status, "author" in answer.body) == (200, True)


OUTSIDER = """
apiVersion: v1
kind: Pod
metadata:
  name: outsider
  namespace: lab
  labels: {app: outsider, sidecar.istio.io/inject: "false"}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: busybox, command: [sleep, "1000"]}]
"""


def test_cluster_ip_without_a_sidecar(mesh: Mesh) -> None:
    """The kernel spreads connections of a pod that has no proxy over the service's pods."""
    with mesh.applied(OUTSIDER):
        wait_ready(mesh, "outsider")
        assert (
            len(
                mesh.run("get", "pod", "outsider", "-n", "lab", "-o", "json").json()["spec"][
                    "containers"
                ]
            )
            == 1
        )
        seen = set()
        for _ in range(24):
            answer = mesh.curl(
                "http://reviews.default:9080/reviews/0", source="outsider", namespace="lab"
            )
            assert answer.status == 200
            seen.add(json.loads(answer.body)["podname"].rsplit("-", 2)[0])
            if len(seen) == 3:
                break
        assert seen == {"reviews-v1", "reviews-v2", "reviews-v3"}


JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: sum, namespace: lab}
spec:
  backoffLimit: 1
  template:
    metadata: {labels: {app: sum}}
    spec:
      restartPolicy: Never
      containers:
        - name: main
          image: busybox
          command: [sh, -c, "curl -s -o /dev/null -w '%{http_code}' http://details.default:9080/details/0"]
"""


def test_a_job_completes(mesh: Mesh) -> None:
    """Its pod reaches the mesh, ends, and the sidecar does not keep it alive."""
    with mesh.applied(JOB):

        def complete() -> bool:
            raw = mesh.run("get", "job", "sum", "-n", "lab", "-o", "json").json()
            conditions = (raw.get("status") or {}).get("conditions") or []
            return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)

        eventually(complete, timeout=30)
        names = [p["metadata"]["name"] for p in mesh.pods("lab")]
        job_pod = next(name for name in names if name.startswith("sum-"))
        assert mesh.logs(job_pod, namespace="lab").strip() == "200"
        assert state(mesh, job_pod)["phase"] == "Succeeded"
