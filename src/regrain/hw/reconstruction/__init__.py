"""Weights back from an artifact: the instructions that say how, who writes them, and what they must give."""
