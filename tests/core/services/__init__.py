"""Tests of the services, one file a module."""
