"""Kubernetes kinds: what a mesh runs and routes to, and what people keep beside it."""

from __future__ import annotations

from lateen.api.core.config import ConfigMap, Namespace, Node, Secret, ServiceAccount
from lateen.api.core.inert import INERT_KINDS
from lateen.api.core.ingress import Ingress, IngressClass
from lateen.api.core.pod import Pod
from lateen.api.core.service import Endpoints, EndpointSlice, Service
from lateen.api.core.validate_config import validate_config_map, validate_secret
from lateen.api.core.validate_inert import validate_inert
from lateen.api.core.validate_ingress import validate_ingress
from lateen.api.core.validate_pod import validate_pod, validate_workload
from lateen.api.core.validate_service import (
    validate_endpoint_slice,
    validate_endpoints,
    validate_service,
)
from lateen.api.core.workloads import (
    CronJob,
    DaemonSet,
    Deployment,
    Job,
    ReplicaSet,
    StatefulSet,
)
from lateen.api.kinds import KindInfo
from lateen.api.resource import ApiObject


def _core(
    group: str,
    kind: str,
    plural: str,
    type_: type[ApiObject],
    *short_names: str,
    namespaced: bool = True,
) -> KindInfo:
    return KindInfo(
        group,
        kind,
        plural,
        type_,
        ("v1",),
        short_names=short_names,
        namespaced=namespaced,
        lenient=True,
    )


KINDS = (
    _core("", "Namespace", "namespaces", Namespace, "ns", namespaced=False),
    _core("", "Node", "nodes", Node, "no", namespaced=False),
    _core("", "Service", "services", Service, "svc"),
    _core("", "Endpoints", "endpoints", Endpoints, "ep"),
    _core("discovery.k8s.io", "EndpointSlice", "endpointslices", EndpointSlice),
    _core("", "Pod", "pods", Pod, "po"),
    _core("apps", "Deployment", "deployments", Deployment, "deploy"),
    _core("apps", "ReplicaSet", "replicasets", ReplicaSet, "rs"),
    _core("apps", "StatefulSet", "statefulsets", StatefulSet, "sts"),
    _core("apps", "DaemonSet", "daemonsets", DaemonSet, "ds"),
    _core("batch", "Job", "jobs", Job),
    _core("batch", "CronJob", "cronjobs", CronJob, "cj"),
    _core("", "ServiceAccount", "serviceaccounts", ServiceAccount, "sa"),
    _core("", "ConfigMap", "configmaps", ConfigMap, "cm"),
    _core("", "Secret", "secrets", Secret),
    _core("networking.k8s.io", "Ingress", "ingresses", Ingress, "ing"),
    _core("networking.k8s.io", "IngressClass", "ingressclasses", IngressClass, namespaced=False),
    *INERT_KINDS,
)

VALIDATORS = {
    ("", "Service"): validate_service,
    ("", "Endpoints"): validate_endpoints,
    ("discovery.k8s.io", "EndpointSlice"): validate_endpoint_slice,
    ("", "Pod"): validate_pod,
    ("apps", "Deployment"): validate_workload,
    ("apps", "ReplicaSet"): validate_workload,
    ("apps", "StatefulSet"): validate_workload,
    ("apps", "DaemonSet"): validate_workload,
    ("batch", "Job"): validate_workload,
    ("batch", "CronJob"): validate_workload,
    ("", "ConfigMap"): validate_config_map,
    ("", "Secret"): validate_secret,
    ("networking.k8s.io", "Ingress"): validate_ingress,
    **{(info.group, info.kind): validate_inert for info in INERT_KINDS},
}
