"""The steps of a release, on the engine and the registry for tests."""
