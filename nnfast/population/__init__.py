"""Many models of one structure, trained and asked together: `nn.Population`."""

from nnfast.population.population import Population

__all__ = ["Population"]
