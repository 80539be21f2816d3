"""One thread for each process of the tests and for what they start: several run at once, and their tensors are small.

numpy and torch read the variable when they are imported.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # interpreters start sooner where modules lie compiled
