"""Kinds that people keep beside a mesh and that have no effect in it: kept as they are."""

from __future__ import annotations

from lateen.api.base import JsonObject
from lateen.api.kinds import KindInfo
from lateen.api.resource import ApiObject


class InertObject(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An object with ``spec`` and ``status`` that is kept but not interpreted."""

    spec: JsonObject = {}
    status: JsonObject = {}


class RoleObject(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``rbac.authorization.k8s.io`` Role and ClusterRole."""

    rules: list[JsonObject] = []
    aggregation_rule: JsonObject | None = None


class RoleBindingObject(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``rbac.authorization.k8s.io`` RoleBinding and ClusterRoleBinding."""

    subjects: list[JsonObject] = []
    role_ref: JsonObject = {}


class WebhookConfigurationObject(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``admissionregistration.k8s.io`` webhook configurations."""

    webhooks: list[JsonObject] = []


class StorageClassObject(ApiObject, frozen=True, kw_only=True):
    """``storage.k8s.io`` StorageClass, ``scheduling.k8s.io`` PriorityClass."""


_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"


def _inert(
    group: str,
    kind: str,
    plural: str,
    type_: type[ApiObject] = InertObject,
    versions: tuple[str, ...] = ("v1",),
    namespaced: bool = True,
    short_names: tuple[str, ...] = (),
) -> KindInfo:
    return KindInfo(
        group,
        kind,
        plural,
        type_,
        versions,
        short_names=short_names,
        namespaced=namespaced,
        lenient=True,
        inert=True,
    )


INERT_KINDS = (
    _inert("", "PersistentVolumeClaim", "persistentvolumeclaims", short_names=("pvc",)),
    _inert("", "PersistentVolume", "persistentvolumes", namespaced=False, short_names=("pv",)),
    _inert("", "ResourceQuota", "resourcequotas", short_names=("quota",)),
    _inert("", "LimitRange", "limitranges", short_names=("limits",)),
    _inert("policy", "PodDisruptionBudget", "poddisruptionbudgets", short_names=("pdb",)),
    _inert(
        "autoscaling",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        versions=("v2", "v1"),
        short_names=("hpa",),
    ),
    _inert("networking.k8s.io", "NetworkPolicy", "networkpolicies", short_names=("netpol",)),
    _inert(_RBAC, "Role", "roles", RoleObject),
    _inert(_RBAC, "ClusterRole", "clusterroles", RoleObject, namespaced=False),
    _inert(_RBAC, "RoleBinding", "rolebindings", RoleBindingObject),
    _inert(_RBAC, "ClusterRoleBinding", "clusterrolebindings", RoleBindingObject, namespaced=False),
    _inert(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        namespaced=False,
        short_names=("crd", "crds"),
    ),
    _inert(
        _ADMISSION,
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        WebhookConfigurationObject,
        namespaced=False,
    ),
    _inert(
        _ADMISSION,
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        WebhookConfigurationObject,
        namespaced=False,
    ),
    _inert("storage.k8s.io", "StorageClass", "storageclasses", StorageClassObject, ("v1",), False),
    _inert(
        "scheduling.k8s.io", "PriorityClass", "priorityclasses", StorageClassObject, ("v1",), False
    ),
)
