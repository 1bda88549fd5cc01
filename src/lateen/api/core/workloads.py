"""Kinds that make pods: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob."""

from __future__ import annotations

from typing import Literal

from lateen.api.base import JsonObject, Message
from lateen.api.core.pod import PodTemplateSpec
from lateen.api.core.selectors import IntOrString, LabelSelector
from lateen.api.resource import ApiObject, ObjectMeta


class RollingUpdate(Message, frozen=True, kw_only=True):
    """How many pods may be missing or extra during an update; numbers or percentages."""

    max_unavailable: IntOrString | None = None
    max_surge: IntOrString | None = None
    partition: int | None = None


class DeploymentStrategy(Message, frozen=True, kw_only=True):
    """``RollingUpdate`` (default) or ``Recreate``."""

    type: Literal["RollingUpdate", "Recreate", ""] = ""
    rolling_update: RollingUpdate | None = None


class DeploymentSpec(Message, frozen=True, kw_only=True):
    """``apps/v1`` DeploymentSpec."""

    replicas: int | None = None
    selector: LabelSelector
    template: PodTemplateSpec
    strategy: DeploymentStrategy | None = None
    min_ready_seconds: int = 0
    revision_history_limit: int | None = None
    paused: bool = False
    progress_deadline_seconds: int | None = None


class Deployment(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``apps/v1`` Deployment."""

    spec: DeploymentSpec
    status: JsonObject = {}


class ReplicaSetSpec(Message, frozen=True, kw_only=True):
    """``apps/v1`` ReplicaSetSpec."""

    replicas: int | None = None
    min_ready_seconds: int = 0
    selector: LabelSelector
    template: PodTemplateSpec


class ReplicaSet(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``apps/v1`` ReplicaSet."""

    spec: ReplicaSetSpec
    status: JsonObject = {}


class UpdateStrategy(Message, frozen=True, kw_only=True):
    """``RollingUpdate`` (default) or ``OnDelete``."""

    type: Literal["RollingUpdate", "OnDelete", ""] = ""
    rolling_update: RollingUpdate | None = None


class StatefulSetSpec(Message, frozen=True, kw_only=True):
    """``apps/v1`` StatefulSetSpec."""

    replicas: int | None = None
    selector: LabelSelector
    template: PodTemplateSpec
    service_name: str = ""
    pod_management_policy: Literal["OrderedReady", "Parallel", ""] = ""
    update_strategy: UpdateStrategy | None = None
    revision_history_limit: int | None = None
    min_ready_seconds: int = 0
    volume_claim_templates: list[JsonObject] = []
    persistent_volume_claim_retention_policy: JsonObject | None = None
    ordinals: JsonObject | None = None


class StatefulSet(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``apps/v1`` StatefulSet."""

    spec: StatefulSetSpec
    status: JsonObject = {}


class DaemonSetSpec(Message, frozen=True, kw_only=True):
    """``apps/v1`` DaemonSetSpec."""

    selector: LabelSelector
    template: PodTemplateSpec
    update_strategy: UpdateStrategy | None = None
    min_ready_seconds: int = 0
    revision_history_limit: int | None = None


class DaemonSet(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``apps/v1`` DaemonSet."""

    spec: DaemonSetSpec
    status: JsonObject = {}


class JobSpec(Message, frozen=True, kw_only=True):
    """``batch/v1`` JobSpec."""

    parallelism: int | None = None
    completions: int | None = None
    active_deadline_seconds: int | None = None
    pod_failure_policy: JsonObject | None = None
    success_policy: JsonObject | None = None
    backoff_limit: int | None = None
    backoff_limit_per_index: int | None = None
    max_failed_indexes: int | None = None
    selector: LabelSelector | None = None
    manual_selector: bool | None = None
    template: PodTemplateSpec
    ttl_seconds_after_finished: int | None = None
    completion_mode: str | None = None
    suspend: bool | None = None
    pod_replacement_policy: str | None = None
    managed_by: str | None = None


class Job(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``batch/v1`` Job."""

    spec: JobSpec
    status: JsonObject = {}


class JobTemplateSpec(Message, frozen=True, kw_only=True):
    """The jobs that a CronJob makes."""

    metadata: ObjectMeta = ObjectMeta()
    spec: JobSpec


class CronJobSpec(Message, frozen=True, kw_only=True):
    """``batch/v1`` CronJobSpec."""

    schedule: str
    time_zone: str | None = None
    starting_deadline_seconds: int | None = None
    concurrency_policy: str = ""
    suspend: bool | None = None
    job_template: JobTemplateSpec
    successful_jobs_history_limit: int | None = None
    failed_jobs_history_limit: int | None = None


class CronJob(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``batch/v1`` CronJob."""

    spec: CronJobSpec
    status: JsonObject = {}
