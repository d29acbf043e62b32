"""Tests of oubliette-core, one file a module."""
