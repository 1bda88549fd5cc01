"""The gRPC half of :mod:`lateen.workloads.ext_authz`: envoy.service.auth.v3.Authorization."""

import asyncio
import importlib

from lateen.workloads.server import print_line


async def serve(port: int, header: str, denial: str) -> None:
    """Answer checks on ``port`` until cancelled."""
    # gRPC and its messages take longer to import than all the rest: off the event loop's thread.
    await asyncio.to_thread(importlib.import_module, "grpc.aio")
    await asyncio.to_thread(importlib.import_module, "envoy.service.auth.v3.external_auth_pb2")
    import grpc
    from envoy.config.core.v3 import base_pb2
    from envoy.service.auth.v3 import external_auth_pb2 as auth
    from google.rpc import code_pb2, status_pb2

    def option(name: str, value: str) -> base_pb2.HeaderValueOption:
        return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, value=value))

    async def check(request: auth.CheckRequest, _: grpc.aio.ServicerContext) -> auth.CheckResponse:
        http = request.attributes.request.http
        received = f"{http.method} {http.host}{http.path}"[:1024]
        allowed = http.headers.get(header) == "allow"
        print_line(f"[gRPCv3][{'allowed' if allowed else 'denied'}]: {received}")
        headers = [
            option(f"{header}-check-result", "allowed" if allowed else "denied"),
            option(f"{header}-check-received", received.encode("ascii", "replace").decode()),
        ]
        if allowed:
            return auth.CheckResponse(
                status=status_pb2.Status(code=code_pb2.OK),
                ok_response=auth.OkHttpResponse(headers=headers),
            )
        return auth.CheckResponse(
            status=status_pb2.Status(code=code_pb2.PERMISSION_DENIED),
            denied_response=auth.DeniedHttpResponse(
                status={"code": 403}, headers=headers, body=denial
            ),
        )

    handler = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=auth.CheckRequest.FromString,
        response_serializer=auth.CheckResponse.SerializeToString,
    )
    server = grpc.aio.server()
    service = "envoy.service.auth.v3.Authorization"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Check": handler}),)
    )
    try:
        bound = server.add_insecure_port(f"0.0.0.0:{port}")
    except RuntimeError as error:
        print_line(f"ext-authz: cannot listen on gRPC port {port}: {error}; HTTP checks go on")
        return
    await server.start()
    print_line(f"ext-authz listening on gRPC port {bound}")
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(5)
