"""The mesh as an immutable value: snapshot, services, workloads, selection, visibility."""
