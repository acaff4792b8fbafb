"""Command line: the demo, agent files, configuration checks."""
