"""The pure core: one scheduler, used unchanged by every engine. No clock, no I/O."""
