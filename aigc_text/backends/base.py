"""`Backend`, the one interface."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from aigc_text.errors import BackendError, OptionError, nearest, shell
from aigc_text.options.generation import GenerationOptions
from aigc_text.outputs import Completion, Piece, Score

from .builtin import BUILT_IN, takers
from .output_checks import sound

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do, as data: the command line, the evaluation and the messages read this, never a name.

    Attributes:
        prompts: takes prompts; else only the empty one.
        continues: the text goes on from the prompt; else it stands for itself.
        streaming: pieces come while the text is generated.
        training: can be trained by the trainer.
        saving: has `save_pretrained`.
        infilling: takes a `suffix`.
        latents: has latent codes.
        sentences: a text is one sentence; several are printed one a line.
        likelihood: `exact`, `bound`, or empty where it has none.
    """

    prompts: bool = True
    continues: bool = True
    streaming: bool = False
    training: bool = False
    saving: bool = False
    infilling: bool = False
    latents: bool = False
    sentences: bool = False
    likelihood: str = ""

    def words(self) -> list[str]:
        """The capabilities as words for a table."""
        named = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) is True]
        return [*named, *([f"likelihood ({self.likelihood})"] if self.likelihood else [])]


class Backend(ABC):
    """Text in, text out.

    A subclass writes `from_pretrained` and `generate`; the rest follows. Nothing here is shaped by torch.
    """

    #: The options that `generate` takes; a backend that needs more subclasses `GenerationOptions`.
    Options: ClassVar[type[GenerationOptions]] = GenerationOptions
    #: The names of those fields that it heeds: `None` means all of them, `()` none. The others are refused, never
    #: ignored.
    takes: ClassVar[tuple[str, ...] | None] = None
    #: What the backend can do.
    capabilities: ClassVar[Capabilities] = Capabilities()
    #: What one text of a plain file is where the user does not say: the `document`, a `paragraph` or a `line`.
    sample_by: ClassVar[str] = "document"
    #: The name it is registered under; `load` sets it.
    name: str = ""
    #: What was loaded, for records: a hub id or a path, and its revision or hash.
    source: str = ""
    revision: str = ""
    precision: str = ""
    #: The name of the engine that decodes, for records; empty where there is no choice of engines.
    decodes_by: str = ""
    #: How it was loaded or made, as a run writes it down; `load` and `from_scratch` set it.
    origin: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    @abstractmethod
    def from_pretrained(cls, model: str | None = None, **kwargs: Any) -> Self:
        """Loads a model.

        Args:
            model: a folder, a file or an id, as the backend sees fit; `None` is its default model.

        Raises:
            ModelError: there is no such model, or it is damaged.
        """

    @abstractmethod
    def generate(
        self, prompts: Iterable[str], options: GenerationOptions | None = None, **overrides: Any
    ) -> Iterator[Completion]:
        """Yields the completions of each prompt, in the order of the prompts.

        Args:
            prompts: plain strings; an empty one asks for unconditional generation.
            options: how; `overrides` name single fields of `Options` instead or on top.

        Raises:
            OptionError: an option that this backend does not take, or a value out of range.
        """

    def pieces(
        self, prompts: Iterable[str], options: GenerationOptions | None = None, **overrides: Any
    ) -> Iterator[Piece]:
        """Yields the same texts as `generate`, piece by piece as they grow, one text after the other."""
        for c in self._completions(prompts, options, **overrides):
            yield Piece(prompt_index=c.prompt_index, index=c.index, text=c.text, completion=c)

    def stream(self, prompt: str, options: GenerationOptions | None = None, **overrides: Any) -> Iterator[str]:
        """Yields one completion's text in pieces; joined they are what `generate` gives."""
        options = self.resolve(options, overrides)
        if (options.num_return_sequences or 1) > 1:
            raise OptionError("stream gives one text", "Use generate or pieces for num_return_sequences above 1.")
        yield from (piece.text for piece in self.pieces([prompt], options) if piece.text)

    def generate_some(
        self,
        prompts: Iterable[str],
        options: GenerationOptions,
        wanted: Callable[[int, int], bool],
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
    ) -> Iterator[Completion]:
        """Yields those completions of `generate` that are wanted, in whatever order they are finished.

        A backend that can make a text without those before it does so; here they are made and passed over.

        Args:
            prompts: all of them, for a text follows from its prompt's place.
            options: how, with a seed where anything is drawn.
            wanted: of (prompt_index, index).
            batch_size: most texts at once.
            batch_tokens: most tokens at once, of prompts and texts together.
        """
        return (c for c in self._completions(prompts, options) if wanted(c.prompt_index, c.index))

    def _completions(
        self, prompts: Iterable[str], options: GenerationOptions | None, **overrides: Any
    ) -> Iterator[Completion]:
        """What `generate` of a subclass gives, held to its class: a plugin's may be anything."""
        return sound(self.generate(prompts, options, **overrides), Completion, self.name)

    def score(self, texts: Iterable[str]) -> Iterator[Score]:
        """Yields how well the model predicts each text, in order; `capabilities.likelihood` says of what kind it is.

        Raises:
            BackendError: this backend has no likelihood; raised by the call, before any text is read.
        """
        raise no_likelihood(self.name)

    @classmethod
    def accepted(cls) -> tuple[str, ...]:
        """The names of the options that `generate` accepts: `takes`, or all of `Options` where that is `None`."""
        return tuple(cls.Options.fields() if cls.takes is None else cls.takes)

    def resolve(self, options: GenerationOptions | None, overrides: dict[str, Any]) -> GenerationOptions:
        """`options` with `overrides` on top, checked to be options of this backend."""
        base: dict[str, Any] = {}
        if options is not None:
            base = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
            base = {k: v for k, v in base.items() if v is not None}
        known = self.accepted()
        for name in [*base, *overrides]:
            if name not in known:
                raise OptionError(
                    f"backend {self.name or type(self).__name__!r} has no option {name!r}.{nearest(name, known)}",
                    f"Allowed: {', '.join(known) or 'none'}{_who_takes(name)}",
                )
        result: GenerationOptions = self.Options.parse({**base, **overrides})
        return result

    def check_prompts(self, prompts: Iterable[str], first: int = 0) -> None:
        """Refuses prompts where the backend takes none; none are read where it takes them.

        A backend that may not look at a prompt would pass over it, and what was asked for is never ignored.

        Args:
            prompts: as the user gave them; empty ones ask for unconditional generation.
            first: the place of the first of them among all prompts, from 0.

        Raises:
            OptionError: naming the first prompt that is not empty.
        """
        if self.capabilities.prompts:
            return
        for place, prompt in enumerate(prompts, first + 1):
            if prompt:
                raise OptionError(
                    f"backend {self.name!r} takes no prompts, prompt {place} is {prompt[:40]!r}",
                    "Leave it out, for unconditional generation: --prompt ''",
                )

    def goes_on(self, options: GenerationOptions) -> bool:
        """Whether texts go on from their prompts under these options; else the prompt is not printed before them."""
        return self.capabilities.continues

    def effective(self, options: GenerationOptions) -> dict[str, Any]:
        """The options that a record reports."""
        return options.given()

    def memory(self) -> int | None:
        """Bytes of the model's parameters; `None` where that is not known."""
        return None

    def to_record(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What a record of a text says of its model.

        Args:
            options: the effective ones.
        """
        return {
            "options": options,
            "backend": self.name,
            "model": self.source,
            "revision": self.revision,
            "precision": self.precision,
            "engine": self.decodes_by,
        }

    def save_pretrained(self, path: str | Path) -> None:
        """Writes the model as a folder that `load` reads back.

        Raises:
            BackendError: this backend cannot save.
        """
        raise BackendError(f"backend {self.name!r} cannot save its model", "See: aigc-text backends")


def no_likelihood(name: str) -> BackendError:
    """The error of a backend that is asked for what it does not have, with the built-in ones that do."""
    able = [name for name, (_, words, _) in BUILT_IN.items() if any(w.startswith("likelihood") for w in words)]
    return BackendError(
        f"backend {name!r} has no likelihood", f"These have: {', '.join(able)}. See: aigc-text backends"
    )


def _who_takes(option: str) -> str:
    """The built-in backends that do take an option; plugins are not imported to be asked."""
    everyone = option in GenerationOptions.fields()
    names = takers(option)
    if everyone:
        return f". {option} is an option of: all built-in backends"
    choose = shell("Choose it: --backend {}", names[0]) if names else ""
    return f". {option} is an option of: {', '.join(names)}. {choose}" if names else ""
