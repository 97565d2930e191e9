"""Synthesizable hardware: one component a file, in Amaranth."""
