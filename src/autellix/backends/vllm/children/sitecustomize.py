"""Hides packages that cannot be imported from the processes that vLLM starts.

Put on ``PYTHONPATH`` by ``environment.prepare`` where it is needed, and only there. As
it stands in the way of any other ``sitecustomize``, that one is run as well.
"""

import importlib.machinery
import importlib.util
import os
import sys

for _name in os.environ.get("AUTELLIX_HIDDEN_MODULES", "").split():
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type] # as if not there

_here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - as sys.path
_elsewhere = [place for place in sys.path if os.path.abspath(place) != _here]  # noqa: PTH100 - as above
_other = importlib.machinery.PathFinder.find_spec("sitecustomize", _elsewhere)
if _other is not None and _other.loader is not None:
    _module = importlib.util.module_from_spec(_other)
    _other.loader.exec_module(_module)
