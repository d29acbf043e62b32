"""The documentation: pages, and what makes those that are made (``python -m docs.generate``)."""
