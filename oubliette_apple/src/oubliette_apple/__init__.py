"""The runtime for Apple's ``container``: each container is a virtual machine of its own."""

from oubliette_apple._runtime import AppleRuntime

__all__ = ["AppleRuntime"]
