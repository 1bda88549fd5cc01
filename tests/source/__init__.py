"""Tests of the store, its API and the sources of objects."""
