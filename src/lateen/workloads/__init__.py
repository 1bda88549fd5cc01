"""Built-in workloads: small equivalents of the images that service mesh tutorials use.

Each module is a program, ``python -m lateen.workloads.NAME``; :mod:`lateen.workloads.images` says
which image each one stands in for. The package imports nothing else of Lateen and, at start, only
a few modules of the standard library, because a mesh on a laptop starts many of these at once.
"""
