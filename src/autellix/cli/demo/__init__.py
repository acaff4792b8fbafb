"""The demo: a few dozen real agents on two local engines, under two policies."""
