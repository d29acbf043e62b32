"""A runtime for Oubliette that drives the command line of Podman."""

from oubliette_podman_example._runtime import PodmanRuntime

__all__ = ["PodmanRuntime"]
