"""The Apple runtime, driven against a stand-in for Apple's `container` that runs containers for real."""
