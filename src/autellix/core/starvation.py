"""When a program starves, and what its promotion is worth (rule Q3).

The step scheduler of an engine and the runtime's own queue both promote; they ask here,
so that there is one rule. Arithmetic is on integers: a float ``beta`` is taken as the
fraction it is, and the instant given is the first at which the rule holds.

The rule: a program starves when W >= beta * max(T, q), with T and W of its fairness
window (rule A7) and q the first quantum. Its waiting calls below level 0 then go to
level 0, and the window restarts. On an engine at most ``most_promoted`` calls are there
for that at a time; of those who starve the program that came first has its turn first.

Why not all at once, as in the paper: past saturation everybody starves. Then everybody
is on level 0, the order of the policy is gone, and where KV is short each is put aside
for the next before it has made up for what it had to compute again. At beta a program
may claim 1/(1 + beta) of its time; so much of what runs those who starve have together,
and the rest goes by level. For the same reason a promotion should last: on a ladder it
does until the call ends.

The bound that follows, in three parts:

1. *Until it is due.* A program with a waiting call below level 0 is due as soon as it
   has waited ``beta * max(T, q)`` since its window began: the wait grows with what it
   ran itself, and with nothing else.
2. *Until promotion.* Ahead are then programs that came earlier and starve as well, and
   the calls promoted already, each until it ends or has had what its promotion is
   worth. Programs that come later never are: so the wait ends, at the latest when the
   earlier ones have, for whom at least one call at a time is on level 0.
3. *After promotion.* Inside a level the order is by arrival there, residents first.
   Ahead of a promoted call are then the n calls that were on level 0 before it; calls
   that come later stand behind. Each ends, or leaves level 0 after at most its first
   quantum and the step it is in if it was not promoted, so at most ``n * (q + longest
   step)`` passes, and what the promoted ones take, until none of them is ahead, on
   however few slots. Two things can be added to n: calls
   that pass because the promoted one does not fit, for at most the stated time after
   which room is kept for it (rule S4, or K7 where programs retain what is cached of
   them), and until residents that recompute what they lost have produced their next
   token; and, when it is not resident itself, paused
   calls promoted after it: fewer than run, so they never have all of the engine.

Where the inner order is by arrival of the program, ahead are the calls of programs that
came earlier, whenever they enter level 0: finitely many programs, each of which ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autellix.core.records import FairnessWindow


def allowed_wait_ns(ran_ns: int, beta: float, first_quantum_ns: int) -> int:
    """Return the smallest W at which a program with this T starves, nanoseconds."""
    numerator, denominator = beta.as_integer_ratio()
    return -(-numerator * max(ran_ns, first_quantum_ns) // denominator)


def most_promoted(running: int, beta: float) -> int:
    """Return how many calls may be promoted where so many run: 1/(1 + beta), but one.

    Of those that run, not of the slots: where KV is short most slots are empty.
    """
    numerator, denominator = beta.as_integer_ratio()
    return max(1, running * denominator // (numerator + denominator))


def is_starving(window: FairnessWindow, beta: float, first_quantum_ns: int) -> bool:
    """Say whether W >= beta * max(T, first quantum), exactly."""
    return window.waited_ns >= allowed_wait_ns(window.ran_ns, beta, first_quantum_ns)


def due_ns(
    window: FairnessWindow, beta: float, first_quantum_ns: int, now_ns: int
) -> int:
    """Return the first instant, not before ``now_ns``, at which a program starves.

    Args:
        window: Its T and W at ``now_ns``; from then on it waits and runs nothing.
        beta: W/T at which a program is promoted; positive and finite.
        first_quantum_ns: Floor of T, so that a program that never ran has to wait too.
        now_ns: The instant at which ``window`` was read.
    """
    allowed = allowed_wait_ns(window.ran_ns, beta, first_quantum_ns)
    return now_ns + max(0, allowed - window.waited_ns)
