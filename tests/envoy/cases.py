"""Values of the intermediate representation, one for each thing that Envoy is asked to do."""

from __future__ import annotations

from lateen.api.resource import ObjectKey, Provenance
from lateen.envoy.build import Part
from lateen.ir.cluster import (
    Cluster,
    ClusterType,
    ConnectionPool,
    Endpoint,
    LoadAssignment,
    LoadBalancer,
    LocalityEndpoints,
    OutlierDetection,
    ServiceReference,
    SlowStart,
    UpstreamProtocol,
)
from lateen.ir.listener import (
    ChainMatch,
    Direction,
    FilterChain,
    HttpConnectionManager,
    Listener,
    Reporter,
    TcpProxy,
    Telemetry,
    WeightedTcpCluster,
)
from lateen.ir.origin import Origin
from lateen.ir.route import (
    ClaimMatch,
    Cors,
    DirectResponse,
    Fault,
    Forward,
    HashPolicy,
    HeaderMatch,
    HeaderOperations,
    HeaderValue,
    MatchKind,
    Mirror,
    NoAction,
    PathKind,
    PathMatch,
    QueryMatch,
    Redirect,
    RetryPolicy,
    Route,
    RouteConfiguration,
    RouteMatch,
    StringMatch,
    VirtualHost,
    WeightedCluster,
)
from lateen.ir.tls import ClientCertificate, DownstreamTls, UpstreamTls
from lateen.model.service import Health, Locality, WorkloadIdentity

KEY = ObjectKey("networking.istio.io", "VirtualService", "default", "reviews")
ORIGIN = Origin("the route says so", KEY, ("spec", "http", 0), Provenance("mesh.yaml", 0, 7))
IDENTITY = WorkloadIdentity("default", "reviews-v1", "reviews", "reviews", "v1", "reviews", "v1")
_MTLS = UpstreamTls(
    certificate="default",
    validation="ROOTCA",
    sni="outbound_.80_._.reviews",
    subject_alt_names=(IDENTITY.spiffe_id,),
    alpn=("istio-h2", "istio", "h2"),
)
_SERVER_TLS = DownstreamTls(
    validation="ROOTCA",
    client_certificate=ClientCertificate.REQUIRED,
    subject_alt_name_prefixes=("spiffe://cluster.local/",),
)


def _route(name: str, *routes: Route, require_tls: bool = False) -> RouteConfiguration:
    host = VirtualHost("reviews:80", ("reviews",), routes, require_tls, (ORIGIN,))
    return RouteConfiguration(name, (host,))


def _to(**options: object) -> Forward:
    return Forward((WeightedCluster("reviews"),), **options)  # type: ignore[arg-type]


def _matching(match: RouteMatch) -> Route:
    return Route("match", match, _to())


def _exact(value: str) -> StringMatch:
    return StringMatch(MatchKind.EXACT, value)


_ALL_HEADERS = HeaderOperations(
    (HeaderValue("a", "1"),),
    (HeaderValue("b", "2"),),
    ("c",),
    (HeaderValue("d", "3"),),
    (HeaderValue("e", "4"),),
    ("f",),
)
_IN = Telemetry(Reporter.DESTINATION, mutual_tls=True)
_OUT = Telemetry(Reporter.SOURCE)
_INBOUND_ROUTES = _route("inbound|80||", Route("default", RouteMatch(), _to(retry=None)))

CASES: dict[str, Part] = {
    "cluster-eds-auto-mtls": Cluster(
        "outbound|80|v1|reviews",
        ClusterType.EDS,
        protocol=UpstreamProtocol.HTTP2,
        auto_mtls=_MTLS,
        service=ServiceReference("reviews.default.svc.cluster.local", "reviews", "default"),
        subset="v1",
        origins=(ORIGIN,),
    ),
    "cluster-pool-and-outliers": Cluster(
        "pool",
        ClusterType.EDS,
        load_balancer=LoadBalancer.ROUND_ROBIN,
        protocol=UpstreamProtocol.DOWNSTREAM,
        pool=ConnectionPool(1, 2, 3, 4, 5, 6, 7.0, 8.0, 9.0, 10, 11.0, 12.0, 13.0, 14.0, 20.0, 3),
        outlier_detection=OutlierDetection(5, 0, True, 7, 10.0, 30.0, 50, 40),
        slow_start=SlowStart(30.0),
        locality_weighted=True,
    ),
    "cluster-ring-hash": Cluster(
        "ring", ClusterType.EDS, load_balancer=LoadBalancer.RING_HASH, ring_minimum_size=2048
    ),
    "cluster-maglev": Cluster(
        "maglev", ClusterType.EDS, load_balancer=LoadBalancer.MAGLEV, maglev_table_size=65537
    ),
    "cluster-dns-simple-tls": Cluster(
        "dns",
        ClusterType.STRICT_DNS,
        protocol=UpstreamProtocol.HTTP1,
        tls=UpstreamTls(
            file_validation="system", auto_sni=True, auto_san_validation=True, alpn=("h2",)
        ),
        load_assignment=LoadAssignment(
            "dns", (LocalityEndpoints((Endpoint("example.com", 443),)),)
        ),
        external=True,
    ),
    "cluster-credential-and-proxy-protocol": Cluster(
        "credential",
        ClusterType.EDS,
        tls=UpstreamTls(certificate="kubernetes://c", validation="kubernetes://c-cacert"),
        proxy_protocol=2,
    ),
    "cluster-insecure": Cluster("insecure", ClusterType.EDS, tls=UpstreamTls(insecure=True)),
    "cluster-passthrough": Cluster(
        "PassthroughCluster",
        ClusterType.ORIGINAL_DST,
        LoadBalancer.CLUSTER_PROVIDED,
        protocol=UpstreamProtocol.DOWNSTREAM,
    ),
    "cluster-inbound-passthrough": Cluster(
        "InboundPassthroughCluster",
        ClusterType.ORIGINAL_DST,
        LoadBalancer.CLUSTER_PROVIDED,
        bind_source="127.0.0.6",
        inbound=True,
    ),
    "cluster-original-dst-port": Cluster(
        "to-15008",
        ClusterType.ORIGINAL_DST,
        LoadBalancer.CLUSTER_PROVIDED,
        upstream_port_override=15008,
    ),
    "cluster-black-hole": Cluster(
        "BlackHoleCluster",
        ClusterType.STATIC,
        LoadBalancer.ROUND_ROBIN,
        load_assignment=LoadAssignment("BlackHoleCluster"),
    ),
    "endpoints": LoadAssignment(
        "pool",
        (
            LocalityEndpoints(
                (
                    Endpoint("10.0.0.1", 80, 2, mtls=True, identity=IDENTITY),
                    Endpoint("10.0.0.2", 80, health=Health.UNHEALTHY),
                    Endpoint("unix:///run/app.sock", 0, health=Health.DRAINING, hostname="a-0"),
                ),
                Locality("r", "z", "s"),
                0,
                3,
            ),
            LocalityEndpoints((Endpoint("fd00::1", 80),), priority=1),
        ),
        140,
    ),
    "listener-outbound-http": Listener(
        "0.0.0.0_80",
        "0.0.0.0",
        80,
        Direction.OUTBOUND,
        (
            FilterChain(
                "",
                HttpConnectionManager("outbound_0.0.0.0_80;", _OUT, "80", upstream_alpn=True),
                ChainMatch(application_protocols=("http/1.1", "h2c")),
                origins=(ORIGIN,),
            ),
        ),
        FilterChain(
            "PassthroughFilterChain",
            TcpProxy("p", (WeightedTcpCluster("PassthroughCluster"),), _OUT, upstream_alpn=True),
        ),
        bind_to_port=False,
        http_inspector=True,
        inspection_timeout=0.0,
    ),
    "listener-outbound-tcp": Listener(
        "10.96.0.1_3306",
        "10.96.0.1",
        3306,
        Direction.OUTBOUND,
        (
            FilterChain(
                "",
                TcpProxy(
                    "weighted",
                    (WeightedTcpCluster("a", 80), WeightedTcpCluster("b", 20)),
                    _OUT,
                    60.0,
                    600.0,
                    (HashPolicy(source_ip=True),),
                ),
                ChainMatch(prefixes=("10.0.0.0/8", "fd00::/8"), server_names=("*.example.com",)),
            ),
        ),
        bind_to_port=False,
        tls_inspector=True,
    ),
    "listener-unix-path": Listener(
        "unix:///tmp/http.sock_0",
        "unix:///tmp/http.sock",
        0,
        Direction.OUTBOUND,
        (FilterChain("", TcpProxy("a", (WeightedTcpCluster("a"),), _OUT)),),
    ),
    "listener-unix-abstract": Listener(
        "unix://@http_0",
        "unix://@http",
        0,
        Direction.OUTBOUND,
        (FilterChain("", TcpProxy("a", (WeightedTcpCluster("a"),), _OUT)),),
    ),
    "listener-virtual-outbound": Listener(
        "virtualOutbound",
        "0.0.0.0",
        15001,
        Direction.OUTBOUND,
        (
            FilterChain(
                "virtualOutbound-catchall-tcp",
                TcpProxy("p", (WeightedTcpCluster("PassthroughCluster"),), _OUT),
            ),
        ),
        use_original_dst=True,
    ),
    "listener-virtual-inbound": Listener(
        "virtualInbound",
        "0.0.0.0",
        15006,
        Direction.INBOUND,
        (
            FilterChain(
                "mtls-http",
                HttpConnectionManager(
                    "inbound_0.0.0.0_80;",
                    _IN,
                    routes=_INBOUND_ROUTES,
                    client_certificate_details=True,
                ),
                ChainMatch(80, (), (), "tls", ("istio-http/1.1", "istio-h2")),
                _SERVER_TLS,
            ),
            FilterChain(
                "mtls-tcp",
                TcpProxy("inbound|80||", (WeightedTcpCluster("inbound|80||"),), _IN),
                ChainMatch(80, (), (), "tls", ("istio",)),
                _SERVER_TLS,
            ),
            FilterChain(
                "plain",
                TcpProxy(
                    "inbound|80||",
                    (WeightedTcpCluster("inbound|80||"),),
                    Telemetry(Reporter.DESTINATION),
                ),
                ChainMatch(80, (), (), "raw_buffer"),
            ),
        ),
        original_dst_filter=True,
        tls_inspector=True,
        http_inspector=True,
        inspector_excluded_ports=(3306, 6379),
        tls_inspector_excluded_ports=(8443,),
        inspection_timeout=5.0,
    ),
    "listener-gateway": Listener(
        "0.0.0.0_8443",
        "0.0.0.0",
        8443,
        Direction.OUTBOUND,
        (
            FilterChain(
                "",
                HttpConnectionManager(
                    "outbound_0.0.0.0_8443;",
                    _OUT,
                    "https.443.https.gateway.default",
                    use_remote_address=True,
                    trusted_hops=1,
                    forward_client_certificate="SANITIZE_SET",
                    idle_timeout=60.0,
                    request_timeout=30.0,
                    request_headers_timeout=10.0,
                    http1_accept_http10=True,
                    merge_slashes=True,
                ),
                ChainMatch(server_names=("shop.example.com",)),
                DownstreamTls(
                    ("kubernetes://shop",),
                    "kubernetes://shop-cacert",
                    ClientCertificate.OPTIONAL,
                    minimum_version="TLSv1_3",
                    cipher_suites=("ECDHE-RSA-AES256-GCM-SHA384",),
                    ecdh_curves=("X25519",),
                    accept_untrusted=True,
                ),
                connect_timeout=15.0,
            ),
        ),
        tls_inspector=True,
        proxy_protocol=True,
        exact_balance=True,
    ),
    "listener-without-telemetry": Listener(
        "quiet",
        "127.0.0.1",
        80,
        Direction.OUTBOUND,
        (
            FilterChain(
                "",
                HttpConnectionManager(
                    "quiet", Telemetry(Reporter.SOURCE, False, False, False), "80"
                ),
            ),
        ),
    ),
    "routes-matches": _route(
        "matches",
        _matching(RouteMatch(PathMatch(PathKind.EXACT, "/a", ignore_case=True))),
        _matching(RouteMatch(PathMatch(PathKind.SEGMENT_PREFIX, "/a/"))),
        _matching(RouteMatch(PathMatch(PathKind.REGEX, "/a/[0-9]+"))),
        _matching(
            RouteMatch(
                headers=(
                    HeaderMatch("x", _exact("1"), invert=True, missing_as_empty=True),
                    HeaderMatch("y", StringMatch(MatchKind.PRESENT)),
                    HeaderMatch("z", StringMatch(MatchKind.REGEX, "a.*", ignore_case=True)),
                    HeaderMatch(":method", StringMatch(MatchKind.SUFFIX, "ET")),
                ),
                query=(
                    QueryMatch("q", _exact("1")),
                    QueryMatch("r", StringMatch(MatchKind.PRESENT)),
                ),
                claims=(ClaimMatch(("groups",), _exact("admin")),),
                grpc=True,
            )
        ),
    ),
    "routes-actions": _route(
        "actions",
        Route(
            "split",
            RouteMatch(),
            Forward(
                (
                    WeightedCluster("a", 1, _ALL_HEADERS, "a.example.com"),
                    WeightedCluster("b", 99),
                ),
                timeout=1.5,
                retry=RetryPolicy(3, "5xx", (503,), 0.25, 0.025, 5, True, True),
                mirrors=(Mirror("m", 0.01),),
                hash_policies=(
                    HashPolicy(header="x"),
                    HashPolicy(cookie="c", cookie_path="/", cookie_ttl=0.0),
                    HashPolicy(source_ip=True),
                    HashPolicy(query_parameter="q"),
                ),
                websocket=False,
            ),
            _ALL_HEADERS,
            operation="reviews:80/*",
            origins=(ORIGIN,),
        ),
        Route("prefix", RouteMatch(), _to(prefix_rewrite="/b", host_rewrite="b")),
        Route(
            "regex",
            RouteMatch(),
            _to(
                regex_rewrite=("^/a/(.*)$", "/\\1"),
                auto_host_rewrite=True,
                append_forwarded_host=True,
                cluster_not_found_code=500,
            ),
        ),
        Route("r1", RouteMatch(), Redirect(302, "h", 8443, "https", "/p")),
        Route("r2", RouteMatch(), Redirect(308, prefix_rewrite="/q")),
        Route("direct", RouteMatch(), DirectResponse(418, b"teapot")),
        Route("none", RouteMatch(), NoAction()),
    ),
    "routes-fault-and-cors": _route(
        "fault",
        Route("http", RouteMatch(), _to(), fault=Fault(0.5, 0.0001, 503, None, 33.3333)),
        Route("grpc", RouteMatch(), _to(), fault=Fault(abort_grpc=14, abort_percent=100.0)),
        Route(
            "cors",
            RouteMatch(),
            _to(),
            cors=Cors((_exact("https://a"),), ("GET", "PUT"), ("x",), ("y",), 3600, True, False),
        ),
    ),
    "routes-https-redirect-and-fallback": RouteConfiguration(
        "fallback",
        (
            VirtualHost("secure", ("a.example.com",), (), require_tls=True),
            VirtualHost(
                "block_all", ("*",), (Route("block_all", RouteMatch(), DirectResponse(502)),)
            ),
        ),
    ),
}
