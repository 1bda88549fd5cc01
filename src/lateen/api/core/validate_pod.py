"""Pods and the workloads that make them."""

from __future__ import annotations

from lateen.api.annotations import check_pod_metadata
from lateen.api.core.container import Container
from lateen.api.core.pod import Pod, PodSpec, PodTemplateSpec
from lateen.api.core.probes import Probe
from lateen.api.core.rules import BAD_LABELS, BAD_POD, SELECTOR_MISMATCH, WITHOUT_EFFECT
from lateen.api.core.selectors import LabelSelector
from lateen.api.core.validate_volume import validate_volume
from lateen.api.core.workloads import (
    CronJob,
    DaemonSet,
    Deployment,
    Job,
    ReplicaSet,
    StatefulSet,
)
from lateen.api.findings import FieldPath
from lateen.api.metadata import DNS_LABEL, label_key_problem, label_value_problem
from lateen.api.report import Report

# Scheduling and storage have no meaning on one machine; saying so beats silence.
_WITHOUT_EFFECT = {
    "affinity": "affinity",
    "tolerations": "tolerations",
    "topology_spread_constraints": "topologySpreadConstraints",
    "priority_class_name": "priorityClassName",
    "runtime_class_name": "runtimeClassName",
    "scheduler_name": "schedulerName",
    "overhead": "overhead",
    "resource_claims": "resourceClaims",
    "scheduling_gates": "schedulingGates",
    "ephemeral_containers": "ephemeralContainers",
}


def validate_pod(obj: Pod, report: Report) -> None:
    """Check a pod's specification and what it sets for its proxy."""
    _proxy_settings(report)
    _pod_spec(obj.spec, ("spec",), report)


def validate_workload(
    obj: Deployment | ReplicaSet | StatefulSet | DaemonSet | Job | CronJob, report: Report
) -> None:
    """Check the selector, the replicas and the template of a workload."""
    template, path = _template(obj)
    for key, value in template.metadata.labels.items():
        problem = label_key_problem(key) or label_value_problem(value)
        if problem:
            report.error(BAD_LABELS, (*path, "metadata", "labels", key), problem)
    metadata = template.metadata
    check_pod_metadata(metadata.annotations, metadata.labels, (*path, "metadata"), report)
    _proxy_settings(report)
    _pod_spec(template.spec, (*path, "spec"), report)
    if isinstance(obj, Job | CronJob):
        if template.spec.restart_policy == "Always":
            message = "a job's pods need restartPolicy OnFailure or Never"
            report.error(BAD_POD, (*path, "spec", "restartPolicy"), message)
        return
    if template.spec.restart_policy != "Always":
        message = f"pods of a {obj.kind} need restartPolicy Always"
        report.error(BAD_POD, (*path, "spec", "restartPolicy"), message)
    selector = obj.spec.selector
    if not selector.match_labels and not selector.match_expressions:
        report.error(SELECTOR_MISMATCH, ("spec", "selector"), "the selector is empty")
    elif not selects(selector, template.metadata.labels):
        hint = f"Repeat the selector's labels in {'.'.join(map(str, path))}.metadata.labels."
        message = "does not match the labels of the pod template"
        report.error(SELECTOR_MISMATCH, ("spec", "selector"), message, hint)
    if not isinstance(obj, DaemonSet) and obj.spec.replicas is not None and obj.spec.replicas < 0:
        report.error(BAD_POD, ("spec", "replicas"), "must not be negative")


def _template(
    obj: Deployment | ReplicaSet | StatefulSet | DaemonSet | Job | CronJob,
) -> tuple[PodTemplateSpec, FieldPath]:
    if isinstance(obj, CronJob):
        return obj.spec.job_template.spec.template, ("spec", "jobTemplate", "spec", "template")
    return obj.spec.template, ("spec", "template")


def selects(selector: LabelSelector, labels: dict[str, str]) -> bool:
    """Whether ``selector`` matches ``labels`` (metav1.LabelSelector semantics)."""
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for term in selector.match_expressions:
        present = term.key in labels
        holds = {
            "In": present and labels.get(term.key) in term.values,
            "NotIn": labels.get(term.key) not in term.values,
            "Exists": present,
            "DoesNotExist": not present,
        }[term.operator]
        if not holds:
            return False
    return True


def _proxy_settings(report: Report) -> None:
    """The annotation ``proxy.istio.io/config``, which keeps an object out when it is broken."""
    # Here, because the mesh configuration is built from networking's messages.
    from lateen.api.meshconfig import annotated, proxy_config_in

    found = annotated(report.resource.object)
    if found is not None:
        report.findings += proxy_config_in(found[0], report.resource, found[1])[1]


def _pod_spec(spec: PodSpec, path: FieldPath, report: Report) -> None:
    if not spec.containers:
        report.error(BAD_POD, (*path, "containers"), "Required value", "Give a container.")
    volumes: set[str] = set()
    for index, volume in enumerate(spec.volumes):
        here: FieldPath = (*path, "volumes", index, "name")
        if not DNS_LABEL.fullmatch(volume.name):
            report.error(BAD_POD, here, f'"{volume.name}" is not a DNS label')
        if volume.name in volumes:
            report.error(BAD_POD, here, f'volume "{volume.name}" is given twice')
        volumes.add(volume.name)
        validate_volume(volume, (*path, "volumes", index), report)
    names: set[str] = set()
    for field, containers in (
        ("initContainers", spec.init_containers),
        ("containers", spec.containers),
    ):
        for index, container in enumerate(containers):
            where: FieldPath = (*path, field, index)
            if container.name in names:
                message = f'container "{container.name}" is given twice'
                report.error(BAD_POD, (*where, "name"), message)
            names.add(container.name)
            _container(container, where, volumes, report)
    for attribute, name in _WITHOUT_EFFECT.items():
        if getattr(spec, attribute):
            report.info(WITHOUT_EFFECT, (*path, name), f"{name} has no effect in the local runtime")


def _container(container: Container, path: FieldPath, volumes: set[str], report: Report) -> None:
    if not DNS_LABEL.fullmatch(container.name):
        report.error(BAD_POD, (*path, "name"), f'"{container.name}" is not a DNS label')
    for index, mount in enumerate(container.volume_mounts):
        # Claims of a StatefulSet's volumeClaimTemplates are volumes too.
        claimed = isinstance(report.resource.object, StatefulSet)
        if mount.name not in volumes and not claimed:
            report.error(
                BAD_POD,
                (*path, "volumeMounts", index, "name"),
                f'no volume is named "{mount.name}"',
                f"Volumes here: {', '.join(sorted(volumes)) or 'none'}.",
            )
    for index, variable in enumerate(container.env):
        if variable.value and variable.value_from is not None:
            report.error(BAD_POD, (*path, "env", index), "has both value and valueFrom")
    ports = {port.name for port in container.ports if port.name}
    for field, probe in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if probe is not None:
            _probe(probe, (*path, field), ports, report)


def _probe(probe: Probe, path: FieldPath, ports: set[str], report: Report) -> None:
    methods = [probe.exec, probe.http_get, probe.tcp_socket, probe.grpc]
    if sum(method is not None for method in methods) != 1:
        report.error(BAD_POD, path, "needs exactly one of exec, httpGet, tcpSocket and grpc")
    for name, action in (("httpGet", probe.http_get), ("tcpSocket", probe.tcp_socket)):
        if action is None:
            continue
        if isinstance(action.port, str) and not action.port.isdigit() and action.port not in ports:
            message = f'the container has no port named "{action.port}"'
            report.error(BAD_POD, (*path, name, "port"), message)
        elif isinstance(action.port, int) and not 1 <= action.port <= 65535:
            report.error(BAD_POD, (*path, name, "port"), f"{action.port} is not in 1..65535")
    for field, value, least in (
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("periodSeconds", probe.period_seconds, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("failureThreshold", probe.failure_threshold, 1),
    ):
        if value < least:
            report.error(BAD_POD, (*path, field), f"must be at least {least}")
