"""The Docker runtime of Oubliette: Docker Engine, and Podman through its Docker-compatible socket.

`DockerRuntime` is the whole public interface. Importing it loads neither docker-py nor anything that connects.
"""

from oubliette_docker._runtime import DockerRuntime

__all__ = ["DockerRuntime"]
