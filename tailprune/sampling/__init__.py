"""From noise to latents: samplers, guidance, and noise that depends on the seed alone.

sample          `sample`, the public entry, and the loop over the steps
solvers         the step of each sampler: DDIM, DDPM, DPM-Solver++, Euler, Heun, SDE, dopri5
guidance        classifier-free guidance
noise           Gaussian noise as a function of seed, sample index and step
trajectories    which trajectories the samples and prunes of a call share at each step
network         the guided network: batching, precomputed modulations, compilation
"""

from tailprune.sampling.guidance import Guidance
from tailprune.sampling.network import compile_network
from tailprune.sampling.noise import Seed, gaussian_noise
from tailprune.sampling.sample import sample, sample_each, sampling_times

__all__ = ["Guidance", "Seed", "compile_network", "gaussian_noise", "sample", "sample_each", "sampling_times"]
