"""Serve many LLM agents on local engines, scheduled as whole programs."""
