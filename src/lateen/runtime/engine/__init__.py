"""Images from the machine's container engine: docker, podman or nerdctl, by their command line.

The engine knows, pulls and exports images; it runs nothing. Containers run in Lateen's own
namespaces, over an image's files in a cache of the user.
"""
