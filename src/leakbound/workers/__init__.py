"""Work on several processes, of this machine or of a Ray cluster: the same results as on one, whatever dies."""

from leakbound.workers.crew import Crew, Do, Workers, crew_for, spread

__all__ = ["Crew", "Do", "Workers", "crew_for", "spread"]
