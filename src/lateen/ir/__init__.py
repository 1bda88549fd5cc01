"""The explained intermediate representation: what each proxy shall do, and why.

Frozen values only. Every part that a user can influence carries `Origin`s, which travel on into
Envoy metadata, so that an access-log line, a rejection and a config dump lead back to YAML.
"""
