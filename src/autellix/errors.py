"""Every error this library raises for what callers cannot prevent.

Wrong arguments are ``ValueError`` or ``TypeError`` at construction, those of a class
of its own too; timeouts stay ``TimeoutError``; cancellation is never converted.
"""

from __future__ import annotations


class AutellixError(Exception):
    """Base of all errors of this library."""


class ConfigError(AutellixError):
    """A configuration file says something that cannot be.

    Attributes:
        message: What is wrong, without the key.
        path: The key, dotted, with indices: ``engines[1].slots``.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        self.message = message
        self.path = path
        super().__init__(f"{path}: {message}" if path else message)


class MissingExtra(AutellixError):
    """Something optional is not installed.

    Attributes:
        module: What could not be imported.
        extra: Brings the module; of ``package``.
        package: This one, or one that adds to it.
    """

    def __init__(
        self, what: str, *, module: str, extra: str, package: str = "autellix"
    ) -> None:
        self.module = module
        self.extra = extra
        self.package = package
        super().__init__(f"{what} needs {module!r}: pip install '{package}[{extra}]'")


class ProgramClosed(AutellixError):
    """A program was used after its block had ended."""

    def __init__(self, program: str) -> None:
        self.program = program
        super().__init__(f"program {program!r} has ended: no call can be made from it")


class RuntimeClosed(AutellixError):
    """The runtime was used before it was entered or after it was left."""


class CallRejected(AutellixError):
    """A call that can never fit, refused at submission (rule S9).

    Attributes:
        needed_tokens: Prompt and ``max_tokens`` together.
        limit_tokens: The most that any engine of the model takes.
    """

    def __init__(self, *, needed_tokens: int, limit_tokens: int, where: str) -> None:
        self.needed_tokens = needed_tokens
        self.limit_tokens = limit_tokens
        self.where = where
        super().__init__(
            f"call needs {needed_tokens} tokens (prompt + max_tokens), "
            f"{where} takes {limit_tokens}"
        )


class UnknownToken(AutellixError):
    """A call whose prompt has an id that is no token, refused at submission.

    Attributes:
        token: The id.
        vocabulary_tokens: Ids are below this.
        where: What refused it.
    """

    def __init__(self, *, token: int, vocabulary_tokens: int, where: str) -> None:
        self.token = token
        self.vocabulary_tokens = vocabulary_tokens
        self.where = where
        super().__init__(
            f"prompt has token id {token}, {where} has {vocabulary_tokens} tokens: "
            f"ids are 0 to {vocabulary_tokens - 1}"
        )


class CallFailed(AutellixError):
    """A call did not end well; the engine's own error is the ``__cause__``.

    Attributes:
        engine: Name of the engine.
    """

    def __init__(self, message: str, *, engine: str) -> None:
        self.engine = engine
        super().__init__(message)


class EngineError(AutellixError):
    """Base of what goes wrong with an engine as a whole.

    Attributes:
        engine: Name of the engine or backend.
    """

    def __init__(self, message: str, *, engine: str) -> None:
        self.engine = engine
        super().__init__(message)


class BackendUnavailable(EngineError):
    """A dependency or device of a backend is missing; says what to install."""


class NoEngine(AutellixError, ValueError):
    """A runtime was given no engine.

    Attributes:
        engines: What it was given.
    """

    def __init__(self, engines: object) -> None:
        self.engines = engines
        super().__init__(f"a runtime needs at least one engine: got {engines!r}")


class EngineNameTaken(AutellixError, ValueError):
    """Two engines of a runtime have one name.

    Attributes:
        name: That name.
        names: Of all engines, in their order.
    """

    def __init__(self, name: str, names: tuple[str, ...]) -> None:
        self.name = name
        self.names = names
        super().__init__(f"two engines are named {name!r}: names are {names!r}")


class EngineLost(EngineError):
    """An engine died, with calls in flight or before; the cause is kept."""


class ModelRefused(EngineError):
    """A model folder is corrupt, or its architecture is not supported."""


class UnknownModel(AutellixError):
    """A call names a model that no engine runs, or none where there are several.

    Attributes:
        model: What was asked for.
        known: The models there are.
    """

    def __init__(self, model: str | None, known: tuple[str, ...]) -> None:
        self.model = model
        self.known = known
        asked = f"no engine runs model {model!r}" if model else "name a model"
        super().__init__(f"{asked}: there are {', '.join(map(repr, known))}")


class PolicyFault(AutellixError):
    """A policy raised, or answered what cannot be; calls it was asked about end so.

    Attributes:
        policy: The policy.
        asked: The method that was asked.
        answer: What came of it; the error, where it raised one, is also the cause.
    """

    def __init__(
        self, policy: object, asked: str, answer: object, wanted: str = ""
    ) -> None:
        self.policy = policy
        self.asked = asked
        self.answer = answer
        who = f"policy {type(policy).__name__}: {asked}()"
        super().__init__(
            f"{who} answered {answer!r}: it takes {wanted}"
            if wanted
            else f"{who} raised {answer!r}"
        )


class PolicyNotPortable(AutellixError):
    """A policy cannot cross into an engine's process (rule Q6); says why."""


class SizeModelError(AutellixError):
    """A file of learned sizes cannot be read.

    Attributes:
        message: What is wrong.
        file: Where.
    """

    def __init__(self, message: str, *, file: str) -> None:
        self.message = message
        self.file = file
        super().__init__(f"{file}: {message}")


class TraceError(AutellixError):
    """A trace file cannot be read, or says something that cannot be.

    Attributes:
        file: Its path.
        line: Counted from 1; None: the file as a whole.
        field: As the format names it: ``calls[3].parents``; empty: the whole line.
    """

    def __init__(
        self, message: str, *, file: str, line: int | None = None, field: str = ""
    ) -> None:
        self.file = file
        self.line = line
        self.field = field
        where = f"{file}:{line}" if line else file
        super().__init__(
            f"{where}: {field}: {message}" if field else f"{where}: {message}"
        )


class InvariantError(AssertionError):
    """A promise of the scheduler itself is broken: a bug of ours, please report it."""
