"""What a cluster does: the protocols of the work that it is given, and of the actors that do it."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

__all__ = ["Host", "Work"]

Answer = TypeVar("Answer")
Given = TypeVar("Given", contravariant=True)


class Host(Protocol):
    """The actor on a node. Its methods run in threads; `stop` and `close` also while every slot is busy."""

    def describe(self) -> dict[str, Any]:
        """Return what the driver has to know; a `problem` in words if this node cannot work."""
        ...

    def do(self, number: int, message: Any) -> Any:
        """Do the task with this number."""
        ...

    def stop(self, number: int) -> None:
        """End a task, if it is here."""
        ...

    def close(self) -> None:
        """End everything."""
        ...


class Work(Protocol[Given, Answer]):
    """What is done: the class of the hosts, how a task gets there, and what becomes of one that cannot be done."""

    @property
    def host(self) -> type[Host]:
        """The class of the hosts, made with the number of their slots."""
        ...

    def refusal(self, description: dict[str, Any]) -> str:
        """Return in words why a node that describes itself so is not used; "" if it is."""
        ...

    def message(self, task: Given, /) -> Any:
        """Return what is sent for a task."""
        ...

    def is_elsewhere(self, answer: Answer, /) -> bool:
        """Decide whether another node should be tried, since this one could not do the task."""
        ...

    def give_up(self, task: Given, /, reason: str) -> Answer:
        """Return the answer to a task that no node could do."""
        ...
