"""Tests of the whole, from the command line down to a real engine."""
