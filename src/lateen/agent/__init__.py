"""What runs beside proxies and pods: Envoy's life, its certificate, cluster DNS and probes.

The modules are small parts that the node's agent puts together. They know nothing of how a pod is
made: processes, connections and commands come in as callables. Nothing heavy is imported, because
an agent stands beside every sidecar.
"""
