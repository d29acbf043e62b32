"""The cases of the conformance kit, and what they are made with.

`manifest.toml` lists every behaviour; each is a method of one of the classes here, named after it.
"""
