"""Identities of workloads: SPIFFE IDs, the certificate authority, keys, delivery to Envoy."""
