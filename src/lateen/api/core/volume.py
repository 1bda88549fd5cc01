"""Volumes of a pod."""

from __future__ import annotations

from msgspec import field

from lateen.api.base import JsonObject, Message
from lateen.api.core.container import ObjectFieldSelector, ResourceFieldSelector


class KeyToPath(Message, frozen=True, kw_only=True):
    """A key and the relative path of its file; ``mode`` is permission bits."""

    key: str
    path: str
    mode: int | None = None


class ConfigMapVolume(Message, frozen=True, kw_only=True):
    """Files from a ConfigMap."""

    name: str = ""
    items: list[KeyToPath] = []
    default_mode: int | None = None
    optional: bool | None = None


class SecretVolume(Message, frozen=True, kw_only=True):
    """Files from a Secret."""

    secret_name: str = ""
    items: list[KeyToPath] = []
    default_mode: int | None = None
    optional: bool | None = None


class SecretProjection(Message, frozen=True, kw_only=True):
    """Files from a Secret in a projected volume."""

    name: str = ""
    items: list[KeyToPath] = []
    optional: bool | None = None


class EmptyDirVolume(Message, frozen=True, kw_only=True):
    """An empty directory that lives as long as the pod; ``medium: Memory`` is a tmpfs."""

    medium: str = ""
    size_limit: str | int | None = None


class HostPathVolume(Message, frozen=True, kw_only=True):
    """A path of the machine."""

    path: str
    type: str | None = None


class DownwardFile(Message, frozen=True, kw_only=True):
    """A file with a field of the pod."""

    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: int | None = None


class DownwardAPIVolume(Message, frozen=True, kw_only=True):
    """Files with fields of the pod."""

    items: list[DownwardFile] = []
    default_mode: int | None = None


class ServiceAccountTokenProjection(Message, frozen=True, kw_only=True):
    """A token of the pod's service account for one audience."""

    audience: str = ""
    expiration_seconds: int | None = None
    path: str


class VolumeProjection(Message, frozen=True, kw_only=True):
    """One source of a projected volume."""

    secret: SecretProjection | None = None
    config_map: ConfigMapVolume | None = None
    downward_api: DownwardAPIVolume | None = field(name="downwardAPI", default=None)
    service_account_token: ServiceAccountTokenProjection | None = None
    cluster_trust_bundle: JsonObject | None = None
    pod_certificate: JsonObject | None = None


class ProjectedVolume(Message, frozen=True, kw_only=True):
    """Several sources in one directory."""

    sources: list[VolumeProjection] = []
    default_mode: int | None = None


class PersistentVolumeClaimVolume(Message, frozen=True, kw_only=True):
    """A claimed volume."""

    claim_name: str
    read_only: bool = False


class Volume(Message, frozen=True, kw_only=True):
    """``core/v1`` Volume; exactly one source."""

    name: str
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    empty_dir: EmptyDirVolume | None = None
    host_path: HostPathVolume | None = None
    projected: ProjectedVolume | None = None
    downward_api: DownwardAPIVolume | None = field(name="downwardAPI", default=None)
    persistent_volume_claim: PersistentVolumeClaimVolume | None = None
    csi: JsonObject | None = None
    ephemeral: JsonObject | None = None
    nfs: JsonObject | None = None
    image: JsonObject | None = None
    iscsi: JsonObject | None = None
    fc: JsonObject | None = None
    rbd: JsonObject | None = None
    cephfs: JsonObject | None = None
    cinder: JsonObject | None = None
    glusterfs: JsonObject | None = None
    gce_persistent_disk: JsonObject | None = None
    aws_elastic_block_store: JsonObject | None = field(name="awsElasticBlockStore", default=None)
    azure_disk: JsonObject | None = None
    azure_file: JsonObject | None = None
    flex_volume: JsonObject | None = None
    flocker: JsonObject | None = None
    git_repo: JsonObject | None = None
    photon_persistent_disk: JsonObject | None = None
    portworx_volume: JsonObject | None = None
    quobyte: JsonObject | None = None
    scale_io: JsonObject | None = field(name="scaleIO", default=None)
    storageos: JsonObject | None = None
    vsphere_volume: JsonObject | None = None
