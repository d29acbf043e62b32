"""Tests of the configuration and the home."""
