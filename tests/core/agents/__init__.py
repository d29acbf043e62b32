"""Agent sessions."""
