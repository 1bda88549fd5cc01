"""Settings of the mesh that hold for every HTTP chain and every TLS termination."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from lateen.api.meshconfig.mesh_config import MeshConfig
from lateen.ir.listener import HttpConnectionManager

_VERSIONS = {"TLSV1_2": "TLSv1_2", "TLSV1_3": "TLSv1_3"}
_MERGING = ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Path normalization, the server header, and the lowest TLS versions."""

    normalize_path: bool = True
    merge_slashes: bool = False
    decode_slashes: bool = False
    server_name: str = "istio-envoy"
    mesh_tls_minimum: str = "TLSv1_2"
    gateway_tls_minimum: str = "TLSv1_2"

    def of(self, manager: HttpConnectionManager) -> HttpConnectionManager:
        """``manager`` with these settings."""
        return replace(
            manager,
            normalize_path=self.normalize_path,
            merge_slashes=self.merge_slashes,
            decode_slashes=self.decode_slashes,
            server_name=self.server_name,
        )


def http_settings(mesh: MeshConfig) -> HttpSettings:
    """The settings in ``MeshConfig``."""
    normalization = mesh.path_normalization.normalization
    headers = mesh.default_config.proxy_headers
    server = headers.server if headers is not None else None
    mesh_tls = mesh.mesh_mtls.min_protocol_version if mesh.mesh_mtls is not None else ""
    gateway_tls = mesh.tls_defaults.min_protocol_version if mesh.tls_defaults is not None else ""
    return HttpSettings(
        normalize_path=normalization != "NONE",
        merge_slashes=normalization in _MERGING,
        decode_slashes=normalization == "DECODE_AND_MERGE_SLASHES",
        server_name=(server.value if server is not None else "") or "istio-envoy",
        mesh_tls_minimum=_VERSIONS.get(mesh_tls, "TLSv1_2"),
        gateway_tls_minimum=_VERSIONS.get(gateway_tls, "TLSv1_2"),
    )
