"""The control plane at run time: xDS, pushes, acknowledgement, quarantine, status, debugging."""
