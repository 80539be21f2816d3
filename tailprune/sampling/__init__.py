"""From noise to latents: solvers, guidance, reproducible noise."""

from tailprune.sampling.guidance import Guidance
from tailprune.sampling.network import compile_network
from tailprune.sampling.noise import Seed, gaussian_noise
from tailprune.sampling.sample import sample, sample_each, sampling_times

__all__ = ["Guidance", "Seed", "compile_network", "gaussian_noise", "sample", "sample_each", "sampling_times"]
