"""The control plane at scale: simulated proxies, generated meshes, scenarios, reports.

``python -m benchmarks.scale SCENARIO --services S --endpoints E --proxies N --namespaces K``
"""
