"""The main job of the README on a real engine: ``python -m tests.demo`` shows it as a transcript."""
