"""Kinds of this group."""
