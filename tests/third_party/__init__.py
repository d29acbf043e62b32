"""A runtime as somebody else would write it, and the Podman that it drives in tests."""
