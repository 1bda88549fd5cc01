"""Kubernetes manifests made real on one machine: pods as network namespaces and processes.

`node` gives sandboxes and processes; the modules beside it decide what runs in them: controllers
turn Deployments into Pods, `pod.py` takes one Pod through its life, `supervisor.py` is the node's
main program, `local.py` starts and stops a node from the command line.
"""
