"""TLS contexts and the secrets they name (Envoy ``DownstreamTlsContext``, ``UpstreamTlsContext``).

The workload's own certificate and the mesh's trust bundle are read from files on the pod's
private tmpfs, which the agent replaces by rename; every other secret comes by ADS.
"""

from __future__ import annotations

import functools

from envoy.config.core.v3 import base_pb2, config_source_pb2, proxy_protocol_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2
from google.protobuf import any_pb2

from lateen.envoy import values
from lateen.ir.tls import (
    ROOT_CERTIFICATES,
    WORKLOAD_CERTIFICATE,
    ClientCertificate,
    DownstreamTls,
    UpstreamTls,
)

SECRET_DIRECTORY = "/run/lateen/proxy"
"""Where the agent puts the pod's certificate; the same in every pod's mount namespace."""
SYSTEM_TRUST = "/etc/ssl/certs/ca-certificates.crt"
_FILES = {WORKLOAD_CERTIFICATE: "certificate.yaml", ROOT_CERTIFICATES: "trust.yaml"}
_SAN = common_pb2.SubjectAltNameMatcher
_RAW = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"


def ads() -> config_source_pb2.ConfigSource:
    """Resources that arrive on the aggregated stream."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.V3,
        initial_fetch_timeout=values.duration(0),
    )


def secret(name: str, directory: str = SECRET_DIRECTORY) -> secret_pb2.SdsSecretConfig:
    """Where Envoy gets a secret: from the watched file, or over ADS."""
    file = _FILES.get(name)
    if file is None:
        return secret_pb2.SdsSecretConfig(name=name, sds_config=ads())
    return secret_pb2.SdsSecretConfig(
        name=name,
        sds_config=config_source_pb2.ConfigSource(
            path_config_source=config_source_pb2.PathConfigSource(
                path=f"{directory}/{file}",
                watched_directory=base_pb2.WatchedDirectory(path=directory),
            ),
            resource_api_version=config_source_pb2.V3,
            initial_fetch_timeout=values.duration(0),
        ),
    )


@functools.lru_cache(maxsize=4096)
def downstream_socket(source: DownstreamTls) -> bytes:
    """Serialised ``TransportSocket`` that terminates TLS."""
    common = common_tls(
        certificates=() if source.file_certificates else source.certificates,
        files=source.file_certificates,
        alpn=source.alpn,
        versions=(source.minimum_version, source.maximum_version),
        ciphers=source.cipher_suites,
        curves=source.ecdh_curves,
    )
    if source.client_certificate is not ClientCertificate.NONE:
        _add_validation(
            common,
            _validation(
                exact=source.subject_alt_names,
                prefixes=source.subject_alt_name_prefixes,
                spki=source.verify_spki,
                hashes=source.verify_hash,
                untrusted=source.accept_untrusted,
                file=source.file_validation,
            ),
            source.validation,
        )
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=common,
        require_client_certificate=values.boolean(
            source.client_certificate is ClientCertificate.REQUIRED
        ),
    )
    return _socket("envoy.transport_sockets.tls", values.pack(context))


def upstream_socket(source: UpstreamTls, proxy_protocol: int = 0) -> bytes:
    """Serialised ``TransportSocket`` that originates TLS, behind a PROXY header if asked."""
    context = tls_pb2.UpstreamTlsContext(sni=source.sni)
    if source.auto_sni and not source.sni:
        context.auto_host_sni = True
    body = context.SerializeToString() + _upstream_common(
        source.certificate,
        source.validation,
        source.subject_alt_names,
        source.alpn,
        source.minimum_version,
        source.maximum_version,
        source.insecure,
        source.file_certificate,
        source.file_validation,
        source.file_crl,
    )
    socket = _socket(
        "envoy.transport_sockets.tls",
        values.packed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", body),
    )
    return with_proxy_protocol(socket, proxy_protocol)


@functools.lru_cache(maxsize=1024)
def _upstream_common(
    certificate: str,
    validation: str,
    subject_alt_names: tuple[str, ...],
    alpn: tuple[str, ...],
    minimum: str,
    maximum: str,
    insecure: bool,
    file_certificate: tuple[str, str] | None,
    file_validation: str,
    file_crl: str,
) -> bytes:
    common = common_tls(
        certificates=(certificate,) if certificate and file_certificate is None else (),
        files=() if file_certificate is None else (file_certificate,),
        alpn=alpn,
        versions=(minimum, maximum),
    )
    if not insecure:
        _add_validation(
            common,
            _validation(exact=subject_alt_names, file=file_validation, crl=file_crl),
            validation,
        )
    context = tls_pb2.UpstreamTlsContext(common_tls_context=common)
    result: bytes = context.SerializeToString(deterministic=True)
    return result


@functools.cache
def raw_socket(proxy_protocol: int = 0) -> bytes:
    """Serialised ``TransportSocket`` for clear text."""
    socket = _socket("envoy.transport_sockets.raw_buffer", values.packed(_RAW, b""))
    return with_proxy_protocol(socket, proxy_protocol)


def with_proxy_protocol(socket: bytes, version: int) -> bytes:
    """Wrap a serialised socket so that it sends a PROXY protocol header first."""
    if not version:
        return socket
    wrapper = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport(
        config=proxy_protocol_pb2.ProxyProtocolConfig(
            version=proxy_protocol_pb2.ProxyProtocolConfig.V2
            if version == 2
            else proxy_protocol_pb2.ProxyProtocolConfig.V1
        ),
        transport_socket=base_pb2.TransportSocket.FromString(socket),
    )
    return _socket("envoy.transport_sockets.upstream_proxy_protocol", values.pack(wrapper))


def common_tls(
    *,
    certificates: tuple[str, ...],
    files: tuple[tuple[str, str], ...],
    alpn: tuple[str, ...],
    versions: tuple[str, str],
    ciphers: tuple[str, ...] = (),
    curves: tuple[str, ...] = (),
    directory: str = SECRET_DIRECTORY,
) -> tls_pb2.CommonTlsContext:
    """``CommonTlsContext`` without validation."""
    minimum, maximum = versions
    common = tls_pb2.CommonTlsContext(
        alpn_protocols=alpn,
        tls_certificate_sds_secret_configs=[secret(name, directory) for name in certificates],
        tls_params=common_pb2.TlsParameters(
            tls_minimum_protocol_version=minimum,
            tls_maximum_protocol_version=maximum,
            cipher_suites=ciphers,
            ecdh_curves=curves,
        ),
    )
    for chain, key in files:
        common.tls_certificates.add(
            certificate_chain=base_pb2.DataSource(filename=chain),
            private_key=base_pb2.DataSource(filename=key),
        )
    return common


def _validation(
    *,
    exact: tuple[str, ...] = (),
    prefixes: tuple[str, ...] = (),
    spki: tuple[str, ...] = (),
    hashes: tuple[str, ...] = (),
    untrusted: bool = False,
    file: str = "",
    crl: str = "",
) -> common_pb2.CertificateValidationContext:
    context = common_pb2.CertificateValidationContext(
        verify_certificate_spki=spki, verify_certificate_hash=hashes
    )
    for name in exact:
        context.match_typed_subject_alt_names.extend(exact_names(name))
    for prefix in prefixes:
        context.match_typed_subject_alt_names.add(
            san_type=_SAN.URI, matcher=string_pb2.StringMatcher(prefix=prefix)
        )
    if untrusted:
        context.trust_chain_verification = common_pb2.CertificateValidationContext.ACCEPT_UNTRUSTED
    if file:
        context.trusted_ca.filename = SYSTEM_TRUST if file == "system" else file
    if crl:
        context.crl.filename = crl
    return context


def exact_names(name: str) -> list[common_pb2.SubjectAltNameMatcher]:
    """A name that the peer's certificate must carry, as whatever kind it can be."""
    matcher = string_pb2.StringMatcher(exact=name)
    kinds = (_SAN.URI,) if "://" in name else (_SAN.DNS, _SAN.URI, _SAN.IP_ADDRESS)
    return [_SAN(san_type=kind, matcher=matcher) for kind in kinds]


def _add_validation(
    common: tls_pb2.CommonTlsContext,
    context: common_pb2.CertificateValidationContext,
    bundle: str,
) -> None:
    if bundle:
        common.combined_validation_context.default_validation_context.CopyFrom(context)
        common.combined_validation_context.validation_context_sds_secret_config.CopyFrom(
            secret(bundle)
        )
    else:
        common.validation_context.CopyFrom(context)


def _socket(name: str, config: any_pb2.Any) -> bytes:
    socket = base_pb2.TransportSocket(name=name, typed_config=config)
    result: bytes = socket.SerializeToString(deterministic=True)
    return result
