"""Where objects come from: the embedded store with its API, and files on disk."""
