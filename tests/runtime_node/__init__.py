"""Live tests of the local runtime's lower half: real namespaces, real processes, real rules."""
