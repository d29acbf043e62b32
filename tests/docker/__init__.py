"""Tests of the Docker runtime, most of them on a real engine."""
