"""The store of images of the embedded runtime."""
