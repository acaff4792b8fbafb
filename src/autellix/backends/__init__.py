"""Backends: the kinds of engine, each imported only when used."""
