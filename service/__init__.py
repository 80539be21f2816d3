"""The HTTP side: requests become jobs, and jobs become answers. Knows `jobs`; never torch."""
