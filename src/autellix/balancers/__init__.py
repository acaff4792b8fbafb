"""Balancers: frozen specs that choose the engine of a call."""

from autellix.balancers.least_loaded import LeastLoaded
from autellix.balancers.locality_aware import LocalityAware
from autellix.balancers.protocol import Balancer, Choice, EngineView, Placing
from autellix.balancers.round_robin import RoundRobin

__all__ = [
    "Balancer",
    "Choice",
    "EngineView",
    "LeastLoaded",
    "LocalityAware",
    "Placing",
    "RoundRobin",
]
