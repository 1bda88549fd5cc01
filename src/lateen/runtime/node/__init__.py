"""The node: the lower half of the local runtime.

A mesh on one machine has one node: a tree of processes in PID, network, mount, UTS and IPC
namespaces of its own (and, without root, in a user namespace that maps only the caller). Nothing on
the machine changes, and when the node's first process ends, for whatever reason, the kernel removes
every process, namespace, interface, rule and mount of the mesh.

From the command line's process::

    from lateen.runtime.node.launch import launch_node
    from lateen.runtime.node.spec import NodeConfig

    handle = launch_node("package.module:main", {"any": "json"}, NodeConfig(state_dir="/..."))
    info = handle.wait_ready(timeout=30)      # what the program gave to `Node.ready`
    handle.stop()                             # or .detach(), .kill(), .wait()

In the node's main process (asyncio; unprivileged without root)::

    async def main(node: Node, arguments: dict[str, object]) -> None:
        sandbox = await node.create_sandbox(SandboxSpec(...), CaptureConfig(...))
        proxy = await sandbox.start(ContainerSpec(..., uid=node.proxy_user, mark_sockets=True))
        await node.set_services(service_table([ServicePort("10.96.0.20", 80, ...)]))
        await node.publish(8080, sandbox.spec.ip, 8080)
        await node.ready({"url": "http://127.0.0.1:8080"})
        await proxy.wait()

SIGTERM to the node (`NodeHandle.stop`) cancels ``main``, which then has `NodeConfig.stop_seconds`
to end. What it needs beyond that is listed by module:

=================  ==================================================================
`launch`           `launch_node`, `NodeHandle`
`check`            `check_node_support`: what stands in the way, each with its fix
`spec`             `NodeConfig`, `SandboxSpec`, `ContainerSpec`, `Mount`, `ExecSpec`, `ProcessSpec`
`node`             `Node`, `Published`
`sandbox`          `Sandbox`, `Container`, `Process`
`services`         `ServicePort`, `service_table`
`errors`           `NodeError` and its kinds; each has a ``hint``
=================  ==================================================================

Processes of a node: the host gateway (`gateway`, outside, opens sockets in the machine's network),
PID 1 (`launcher`, forks containers), main, the forwarder (`forwarder`, splices published ports and
egress) and for moments the netlink worker (`netlink`, the only one with pyroute2).

Who containers run as: with root, applications get uid 65534, Envoy 1337 (`Node.proxy_user`),
``securityContext.runAsUser`` another; without root everything runs as the caller and another uid
is an error (`Node.can_switch_user`). Containers have no capabilities and can gain none. Directories
that are closed to others (``/root``) are replaced by empty ones in which only the running Python,
Lateen and `NodeConfig.exposed_paths` appear. A container whose uid is 0 has no capabilities either,
but reads what root's files allow.
"""
