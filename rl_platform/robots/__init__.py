"""Robots, each built in code from its published numbers."""
