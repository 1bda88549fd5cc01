"""Lateen: a complete service mesh that anyone can ``pip install``."""

__version__ = "0.1.0"
