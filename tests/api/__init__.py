"""Tests of reading, locating and validating what users write."""
