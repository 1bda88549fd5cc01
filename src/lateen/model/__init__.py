"""The mesh as an immutable value: snapshot, services, workloads, selection, visibility.

Public signatures, by module:

- ``change``: ``Change(key, resource | None)``, ``ChangeSet(keys, services, endpoints, workloads,
  everything)`` with ``.merged(later)``, ``.kinds``, ``.only_endpoints``.
- ``snapshot``: ``EMPTY``, ``apply(snapshot, changes) -> (Snapshot, ChangeSet)``,
  ``snapshot_of(resources) -> Snapshot``. ``Snapshot``: ``mesh``, ``mesh_facts``, ``version``,
  ``root_namespace``, ``trust_domain``, ``services``, ``findings``, ``get(key)``,
  ``of_kind(group, kind)``, ``in_namespace(group, kind, namespace)``, ``namespace(name)``,
  ``derived(Index(name, kinds, build, services=False))``.
- ``registry``: ``ServiceRegistry``: ``get(hostname, namespace=None)``, ``by_host(hostname)``,
  ``resolve(hostname, client_namespace)``, ``all()``, ``visible_to(namespace)``,
  ``endpoints(service)``, ``members(service)``, ``selecting(namespace, labels)``,
  ``services_of(pod_key)``, ``workload(key)``. One ``Service`` per host and namespace, with all its
  addresses.
- ``names``: ``expand``, ``matches``, ``subset_of``, ``more_specific``, ``most_specific``,
  ``intersection``, ``gateway_name``, ``is_ip``, ``is_wildcard``, ``service_hostname``.
- ``visibility``: ``export_to(values, namespace, default)``, ``is_visible(exported, namespace)``.
- ``workloads``: ``Workload``, ``workload_name(pod)``, ``pod_identity(pod, trust_domain)``.
- ``protocols``: ``select_protocol(number, name, transport, app_protocol)``, ``parse_protocol``.
"""
