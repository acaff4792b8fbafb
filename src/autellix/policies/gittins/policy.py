"""Gittins: the next work goes where it promises to end most programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import attrs

from autellix.core.ranking import ChargeSample, InnerOrder, Ranking
from autellix.core.records import Charge
from autellix.policies.beta import DEFAULT_BETA, valid_beta
from autellix.policies.calibration import step_charge_s
from autellix.policies.gittins.index import Objective
from autellix.policies.gittins.sizes import SizeModel, learned
from autellix.policies.gittins.survival import edges_s
from autellix.policies.gittins.table import IndexTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.core.process_table import ProgramView

_FEW_ENDS: Final = 32  # so long every end tells much, and so do those that do not end
_MOST_NEWS: Final = 32  # between two tables, so that a load that changes is followed


def _to_objective(value: str) -> Objective:
    if value not in list(Objective):
        choice = ", ".join(repr(each.value) for each in Objective)
        raise ValueError(f"objective must be one of {choice}: {value!r}")
    return Objective(value)


@attrs.frozen(kw_only=True)
class Gittins:
    """Learns how large programs of each class are, and ranks by their Gittins index.

    Needs no lengths: sizes are those of programs that ended, and of those that run it
    knows that they are larger than their age. Counts total work, over all branches:
    what an engine spends on a program is work, and so is what the index is a return on.

    Attributes:
        objective: ``"latency"``, or ``"s/token"``: what is to be small on the mean.
        model: What was learned in an earlier run (``autellix.runtime.load_sizes``; in a
            configuration file the path of what ``save_sizes`` wrote).
        beta: W/T at which a program is promoted; None: never.
    """

    objective: Objective = attrs.field(
        default=Objective.LATENCY, converter=_to_objective
    )
    model: SizeModel = attrs.field(factory=SizeModel, repr=False)
    beta: float | None = attrs.field(default=DEFAULT_BETA, validator=valid_beta)
    charge: ClassVar[Charge] = Charge.WORK
    inner_order: ClassVar[InnerOrder] = InnerOrder.PROGRAM_ARRIVAL

    @model.validator
    def _check_model(self, _: object, value: object) -> None:
        if not isinstance(value, SizeModel):
            raise TypeError(
                "model must be a SizeModel, as autellix.runtime.load_sizes(path) "
                f"returns it: {value!r:.80}"
            )

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        """Return the program's work so far, over all its branches."""
        return program.work_ns

    def ranking(self, step_ns: int) -> Ranking:
        """Return what follows from the model of an earlier run, if there is any."""
        return IndexTable(
            model=self.model,
            objective=self.objective,
            first_s=step_charge_s(step_ns, self.charge),
        )

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        """Return a table that rests on what was seen since; None while that is little.

        Raises:
            TypeError: ``old`` is no ``IndexTable``.
        """
        if not isinstance(old, IndexTable):
            raise TypeError(f"only an IndexTable can be learned on: got {old!r}")
        ended = seen.programs_ended
        arrived = 1 + max((each.arrival for each in seen.programs), default=-1)
        # Those that came tell something too: if a load changes to longer programs, for
        # a long time none of them ends.
        news = max(ended - old.programs_ended, arrived - old.programs_arrived)
        if ended > _FEW_ENDS and news < min(ended // 8, _MOST_NEWS):
            return None
        model = learned(seen, self.model, old.model, edges_s(old.first_s))
        return attrs.evolve(
            old, model=model, programs_ended=ended, programs_arrived=arrived
        )
