"""The mesh as an immutable value: snapshot, services, workloads, selection, visibility.

Public signatures, by module (``snapshot`` arguments are `lateen.model.snapshot.Snapshot`):

- ``change``: ``Change(key, resource | None)``, ``ChangeSet(keys, services, endpoints, inline,
  workloads, everything)`` with ``.merged(later)``, ``.kinds``, ``.only_endpoints``, ``.empty``.
- ``snapshot``: ``EMPTY``, ``apply(snapshot, changes) -> (Snapshot, ChangeSet)``,
  ``with_mesh(snapshot, mesh_config) -> (Snapshot, ChangeSet)``, ``snapshot_of(resources)``.
  ``Snapshot``: ``mesh``, ``mesh_facts``, ``version``, ``root_namespace``, ``trust_domain``,
  ``services``, ``findings``, ``get(key)``, ``of_kind(group, kind)``,
  ``in_namespace(group, kind, namespace)``, ``namespace(name)``, ``resources()``,
  ``derived(Index(name, kinds, build, services=False))``.
- ``registry``: ``ServiceRegistry`` (``snapshot.services``): ``get(hostname, namespace=None)``,
  ``by_host(hostname)``, ``resolve(hostname, client_namespace)``, ``all()``,
  ``visible_to(namespace)``, ``endpoints(service)``, ``members(service)``,
  ``selecting(namespace, labels)``, ``services_of(pod_key)``, ``listing(pod_key, addresses)``,
  ``workload(key)``, ``workloads(namespace)``. One ``Service`` per host and namespace, with all its
  addresses.
- ``scope``: ``scope_of(snapshot, proxy) -> Scope``, ``scope_of_pod(snapshot, pod)``,
  ``inbound_ports``, ``gateway_ports``; ``proxies``: ``proxy_of(snapshot, pod) -> Proxy``,
  ``proxy_type(pod)``, ``node_id(...)``.
- ``virtual_services``: ``virtual_services(snapshot).for_mesh(namespace)``,
  ``.for_gateway("NS/NAME", namespace)``, ``.all``; ``most_specific(hostname, candidates)``. Each
  ``EffectiveVirtualService`` has full host names, resolved gateways and merged delegates.
- ``destination_rules``: ``destination_rules(snapshot).for_service(client_namespace, service,
  labels)``, ``.lookup(client_namespace, hostname, service_namespace, labels)``.
- ``sidecar``: ``sidecars(snapshot).scope(namespace, labels) -> SidecarScope``,
  ``.default_scope(namespace)``, ``.resource_for(namespace, labels)``.
- ``gateways``: ``gateways(snapshot).for_labels(labels)``.
- ``peer_authentication``: ``peer_authentications(snapshot).effective(namespace, labels)``,
  ``.mode(namespace, labels, port)``, ``.namespace_mode(namespace)``, ``.mesh_mode()``.
- ``selection``: ``selects(selector, labels)``, ``workload_selector(object)``,
  ``tested_labels(snapshot)``; ``label_selectors``: ``matches_selector(selector, labels)``.
- ``names``: ``expand``, ``matches``, ``subset_of``, ``more_specific``, ``most_specific``,
  ``intersection``, ``gateway_name``, ``is_ip``, ``is_wildcard``, ``service_hostname``.
- ``visibility``: ``export_to(values, namespace, default)``, ``is_visible(exported, namespace)``.
- ``workloads``: ``Workload``, ``workload_name(pod)``, ``pod_identity(pod, trust_domain)``.
- ``protocols``: ``select_protocol(number, name, transport, app_protocol)``, ``parse_protocol``.
- ``analysis``: ``findings(snapshot)``.
"""
