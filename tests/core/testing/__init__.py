"""Tests of what core gives to the tests of others."""
