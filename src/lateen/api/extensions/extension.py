"""WasmPlugin and TrafficExtension (Istio ``extensions/v1alpha1``)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lateen.api.base import Int32, JsonObject, Message
from lateen.api.resource import ApiObject
from lateen.api.security.attachment import (
    PolicyTargetReference,
    PortSelector,
    TargetReferences,
    WorkloadMode,
    WorkloadSelector,
)

MAX_LUA_CODE = 65536
"""Characters of inline Lua code."""

Sha256 = Annotated[str, Meta(pattern=r"^$|^[a-f0-9]{64}$")]
SecretName = Annotated[str, Meta(min_length=1, max_length=253)]
PluginName = Annotated[str, Meta(min_length=1, max_length=256)]

PullPolicy = Literal["UNSPECIFIED_POLICY", "IfNotPresent", "Always"]
FailStrategy = Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"]
PluginType = Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"]
Phase = Literal["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"]
"""Where in the filter chain: before authentication, before authorization, before statistics."""


class EnvVar(Message, frozen=True, kw_only=True):
    """An environment variable of the Wasm VM: a fixed value, or the proxy's own (HOST)."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    value_from: Literal["INLINE", "HOST"] = "INLINE"
    value: Annotated[str, Meta(max_length=2048)] = ""


class VmConfig(Message, frozen=True, kw_only=True):
    """Settings of the Wasm VM."""

    env: Annotated[list[EnvVar], Meta(max_length=256)] = []


class TrafficSelector(Message, frozen=True, kw_only=True):
    """Traffic that passes the extension: by side and by port (any, if none is given)."""

    mode: WorkloadMode = "UNDEFINED"
    ports: list[PortSelector] = []


class WasmConfig(Message, frozen=True, kw_only=True):
    """A Wasm module: where it comes from and how it runs.

    ``url`` is ``oci://`` (also without a scheme), ``http(s)://`` or ``file://``.
    """

    url: Annotated[str, Meta(min_length=1)]
    sha256: Sha256 = ""
    image_pull_policy: PullPolicy = "UNSPECIFIED_POLICY"
    image_pull_secret: SecretName | None = None
    verification_key: str = ""
    plugin_config: JsonObject | None = None
    plugin_name: PluginName | None = None
    fail_strategy: FailStrategy = "FAIL_CLOSE"
    vm_config: VmConfig | None = None
    type: PluginType = "UNSPECIFIED_PLUGIN_TYPE"


class WasmPluginSpec(Message, frozen=True, kw_only=True):
    """Spec of WasmPlugin. Within a phase, higher ``priority`` comes first (default 0)."""

    url: Annotated[str, Meta(min_length=1)]
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: TargetReferences = []
    sha256: Sha256 = ""
    image_pull_policy: PullPolicy = "UNSPECIFIED_POLICY"
    image_pull_secret: SecretName | None = None
    verification_key: str = ""
    plugin_config: JsonObject | None = None
    plugin_name: PluginName | None = None
    phase: Phase = "UNSPECIFIED_PHASE"
    priority: Int32 | None = None
    fail_strategy: FailStrategy = "FAIL_CLOSE"
    vm_config: VmConfig | None = None
    match: list[TrafficSelector] = []
    type: PluginType = "UNSPECIFIED_PLUGIN_TYPE"


class WasmPlugin(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """extensions.istio.io WasmPlugin."""

    spec: WasmPluginSpec
    status: JsonObject = {}


class LuaConfig(Message, frozen=True, kw_only=True):
    """A Lua filter: defines ``envoy_on_request`` and/or ``envoy_on_response``."""

    inline_code: Annotated[str, Meta(max_length=MAX_LUA_CODE)] = ""


class TrafficExtensionSpec(Message, frozen=True, kw_only=True):
    """Spec of TrafficExtension: exactly one of ``wasm`` and ``lua``."""

    selector: WorkloadSelector | None = None
    target_refs: TargetReferences = []
    phase: Literal[
        "UNSPECIFIED",
        "AUTHN",
        "AUTHZ",
        "STATS",
        "EXECUTION_PHASE_UNSPECIFIED",
        "EXECUTION_PHASE_AUTHN",
        "EXECUTION_PHASE_AUTHZ",
        "EXECUTION_PHASE_STATS",
    ] = "UNSPECIFIED"
    priority: Int32 | None = None
    match: list[TrafficSelector] = []
    wasm: WasmConfig | None = None
    lua: LuaConfig | None = None

    @property
    def target_ref(self) -> PolicyTargetReference | None:
        """TrafficExtension has no single reference; here for what handles all policies alike."""
        return None

    @property
    def execution_phase(self) -> Phase:
        """``phase`` in the spelling that WasmPlugin uses."""
        name = self.phase.removeprefix("EXECUTION_PHASE_")
        return _PHASES.get(name, "UNSPECIFIED_PHASE")


_PHASES: dict[str, Phase] = {"AUTHN": "AUTHN", "AUTHZ": "AUTHZ", "STATS": "STATS"}


class TrafficExtension(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """extensions.istio.io TrafficExtension."""

    spec: TrafficExtensionSpec
    status: JsonObject = {}
