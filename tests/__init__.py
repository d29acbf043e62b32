"""Tests of Oubliette and the machinery that they stand on."""
