"""Chaos on real servers (README.md): load, faults at random, and a judge of what came of it."""
