"""Draw the tasks of a world's splits, so that what is held out shares nothing with what is drawn later."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

from ibft.errors import UserError
from ibft.worlds.library import Chain, Operation
from ibft.worlds.probes import behavior, is_sound
from ibft.worlds.tasks import Example, clauses_of, composition, random_chain

__all__ = ["MAX_DRAWS", "Draw"]

# Draws before a split is called impossible. Nine in ten of two operations are sound, one in twenty of twelve.
MAX_DRAWS = 2_000


class Draw:
    """Draws examples split by split, and remembers the compositions and the behaviors that are held out.

    Args:
        world: the kind of world, and `seed`: with the split's name they seed its generator.
        depths: a chain has one of these numbers of operations, each equally often, unless a split has its own.
        operations: what chains are made of.
        num_phrasings: how many of an operation's phrasings are used.
        draw_name: returns a function's name for a split.
    """

    def __init__(
        self,
        world: str,
        seed: int,
        *,
        depths: Sequence[int],
        operations: Sequence[Operation],
        num_phrasings: int,
        draw_name: Callable[[random.Random, str], str],
    ) -> None:
        self._world, self._seed = world, seed
        self._depths, self._operations, self._num_phrasings = depths, operations, num_phrasings
        self._draw_name = draw_name
        self._compositions: set[tuple[str, ...]] = set()
        self._behaviors: set[str] = set()
        self._beginnings: set[Chain] = set()

    def hold_out(
        self, split: str, count: int, *, depths: Sequence[int] | None = None, beginning: int = 0
    ) -> list[Example]:
        """Draw examples that share neither composition nor behavior with each other or with any drawn later.

        Args:
            split: names the generator, and the examples.
            count: how many.
            depths: numbers of operations; None takes those of all splits.
            beginning: so many first statements of an example are those of no other one that was drawn with such a
                number; 0 for examples that may begin alike.

        Raises:
            UserError: see `examples`.
        """
        examples = []
        for example in itertools.islice(self.examples(split, depths=depths, beginning=beginning), count):
            self._compositions.add(composition(example.chain))
            self._behaviors.add(behavior(example.chain))
            if beginning:
                self._beginnings.add(example.chain[:beginning])
            examples.append(example)
        return examples

    def examples(self, split: str, *, depths: Sequence[int] | None = None, beginning: int = 0) -> Iterator[Example]:
        """Yield examples without end that share nothing with those held out; among themselves they may share all.

        Args: as of `hold_out`.

        Raises:
            UserError: no chain of some depth is left.
        """
        # A generator per split: how many of one are drawn changes no other.
        rng = random.Random(f"{self._world} {self._seed} {split}")
        for number in itertools.count():
            chain = self._chain(rng, split, depths or self._depths, beginning)
            name = self._draw_name(rng, split)
            yield Example(f"{self._world}/{split}/{number}", name, chain, clauses_of(rng, chain, self._num_phrasings))

    def _chain(self, rng: random.Random, split: str, depths: Sequence[int], beginning: int) -> Chain:
        depth = depths[rng.randrange(len(depths))]
        for _ in range(MAX_DRAWS):
            chain = random_chain(rng, depth, self._operations)
            if (  # the cheapest first: the last two run the chain on 61 lists
                composition(chain) not in self._compositions
                and chain[:beginning] not in self._beginnings
                and is_sound(chain)
                and behavior(chain) not in self._behaviors
            ):
                return chain
        raise UserError(
            f"worlds: no chain of {depth} operations is left for {split} after {len(self._compositions)} were held "
            "out. Ask for fewer examples, or for deeper chains."
        )
