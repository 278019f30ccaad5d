"""The networks of an agent behind another normalizer."""

from ca14lib.agents import DQN
from ca14lib.environments import GridWorld
from ca14lib.experiments.evaluation import fine_tuning as experiment
from ca14lib.training.collect import collect
from ca14lib.training.offline import train_offline


def shares(seed: int, updates: int = 600) -> tuple[float, float]:
    """Greedy share of the agent from the log, and of a copy that sees through another normalizer."""
    data = experiment.recorded(seed)
    agent_class, config = experiment.ROUTES["offline only"].before
    agent = agent_class(data.observation_space, data.action_space, config, normalizer=data.normalizer(), seed=seed)
    train_offline(agent, data, updates, batch_size=experiment.BATCH, seed=seed, progress=False)
    online = collect(GridWorld(size=experiment.SIZE), "random", 1, seed)
    copy = DQN(data.observation_space, data.action_space, experiment.ROUTES["online only"].after[1],
               normalizer=online.normalizer(), seed=seed)  # fmt: skip
    copy.q_network.load_state_dict(agent.q_network.state_dict())
    evaluation = experiment.greedy_evaluation()
    return evaluation(agent)["share"], evaluation(copy)["share"]


if __name__ == "__main__":
    for seed in range(3):
        print(seed, shares(seed))
