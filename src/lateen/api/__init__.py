"""What users write: one module per API group, parsed with provenance, validated one by one."""
