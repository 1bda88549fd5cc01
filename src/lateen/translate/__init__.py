"""Snapshot and scope to IR: pure functions, part by part.

`translate` makes everything; the parts (`clusters.outbound_clusters`, `endpoints.load_assignments`,
`outbound.listeners`, `routes.route_configuration`, `inbound`, `gateway`) can be asked one by one
with a `View`, and give back the same object while their inputs are the same.
"""
