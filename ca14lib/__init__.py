"""The package behind the course CA14: Advanced Deep Reinforcement Learning.

Importing it registers the course's environments with Gymnasium (``CA14/GridWorld-v0`` and the others);
everything else is imported from its sub-package.
"""

from ca14lib.environments.registration import register_environments

__version__ = "0.1.0"

register_environments()
