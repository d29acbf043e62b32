"""Measurements against the floor and the peers: `python -m tests.bench`. Not part of the tests."""
