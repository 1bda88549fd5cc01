"""Whole meshes on this machine: real pods and Envoys, driven by the command line."""
