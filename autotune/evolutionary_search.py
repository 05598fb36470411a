"""Evolution among the schedules that a cost model thinks well of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..targets.cpu.machine import Machine
from .cost_model import CostModel
from .features import task_features
from .search import History, Knowledge, Proposal, history_of, untried
from .tasks import Task


@dataclass(frozen=True)
class EvolutionarySearch:
    """Mutates and crosses the best schedules and measures those that the model ranks first.

    Attributes:
        machine: what the features describe; the one at hand unless told otherwise.
        epsilon: the part of each batch that is drawn at random, whatever the model says.
        population: how many schedules a generation has.
        generations: how many there are in a proposal.
        trained_from: as long as fewer points of this template were measured, nothing is predicted.
        relatives: how many similar tasks lend their best schedules.
    """

    machine: Machine = field(default_factory=lambda: Machine(1, 64, 32, frozenset()))
    epsilon: float = 0.15
    population: int = 128
    generations: int = 4
    trained_from: int = 4
    relatives: int = 3

    def propose(
        self, task: Task, knowledge: Knowledge, count: int, generator: np.random.Generator
    ) -> list[Proposal]:
        """See ``Search``."""
        history = history_of(task, knowledge)
        chosen = self._ranked(task, knowledge, history, self._exploiting(count, generator), generator)
        named = {proposal.point for proposal in chosen}
        rest = [point for point in untried(task.space, history) if point not in named]
        drawn = generator.permutation(len(rest))[: count - len(chosen)]
        return chosen + [Proposal(rest[i]) for i in drawn]

    def _exploiting(self, count: int, generator: np.random.Generator) -> int:
        return int(np.sum(generator.random(count) >= self.epsilon))

    def _ranked(
        self,
        task: Task,
        knowledge: Knowledge,
        history: History,
        count: int,
        generator: np.random.Generator,
    ) -> list[Proposal]:
        """Untried points, the most promising first."""
        lent = self._lent(task, knowledge, generator)
        if len(history.gains) < self.trained_from:
            return [Proposal(point) for point in dict.fromkeys(lent) if point not in history.gains][:count]
        model = CostModel(self.machine, int(generator.integers(2**31)))
        model.train(task.kernel.template, knowledge)
        pool = self._evolve(task, history, lent, model, generator)
        fresh = [point for point in pool if point not in history.gains]
        if not fresh:
            return []
        scores = model.predict(task, fresh)
        order = np.argsort(-scores, kind="stable")[:count]
        return [Proposal(fresh[i], float(np.exp2(scores[i]))) for i in order]

    def _evolve(
        self,
        task: Task,
        history: History,
        lent: list[int],
        model: CostModel,
        generator: np.random.Generator,
    ) -> list[int]:
        """All schedules that were ever part of the population; the whole space where it is small."""
        space = task.space
        if len(space) <= self.population * self.generations:
            return list(range(len(space)))
        drawn = generator.integers(len(space), size=self.population // 2)
        parents = list(dict.fromkeys([*history.best_points(self.population // 4), *lent, *map(int, drawn)]))
        seen = dict.fromkeys(parents)
        for _ in range(self.generations):
            fitness = np.exp2(model.predict(task, parents))
            likelihood = fitness / fitness.sum()
            children = []
            for _ in range(self.population):
                a, b = generator.choice(len(parents), size=2, p=likelihood)
                child = space.cross(parents[a], parents[b], generator)
                children.append(space.mutate(child, generator))
            seen |= dict.fromkeys(children)
            pool = list(dict.fromkeys([*parents, *children]))
            order = np.argsort(-model.predict(task, pool), kind="stable")
            parents = [pool[i] for i in order[: self.population]]
        return list(seen)

    def _lent(self, task: Task, knowledge: Knowledge, generator: np.random.Generator) -> list[int]:
        """The default's point, and the best schedules of the similar tasks, or what is nearest to those."""
        own = task_features(task, self.machine)
        others = [
            (float(np.abs(task_features(other, self.machine) - own).sum()), index)
            for index, (other, history) in enumerate(knowledge)
            if other.kernel.template == task.kernel.template
            and other.kernel != task.kernel
            and history.best_points(1)
        ]
        points = [point] if (point := task.space.find(task.default)) is not None else []
        for _, index in sorted(others)[: self.relatives]:
            other, history = knowledge[index]
            best = other.space.knobs(history.best_points(1)[0])
            points.append(task.space.nearest(best, generator))
        return points
