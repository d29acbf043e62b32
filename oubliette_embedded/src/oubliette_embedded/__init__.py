"""The embedded runtime of Oubliette: containers from OCI images on Linux, without a daemon, an engine or root.

`EmbeddedRuntime` is the whole public interface.
"""

from oubliette_embedded._runtime import EmbeddedRuntime

__all__ = ["EmbeddedRuntime"]
