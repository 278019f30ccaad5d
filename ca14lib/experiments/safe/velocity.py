"""Hopper with a speed limit: safe agents at a million steps, beside what OmniSafe published. Book: safe/lagrangian."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from ca14lib.agents.on_policy import OnPolicyAgent, OnPolicyConfig
from ca14lib.agents.safe.cpo import CPO, CPOConfig
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.data import Normalizer
from ca14lib.environments import vector_environment_spaces
