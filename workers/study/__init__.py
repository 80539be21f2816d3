"""The job `study`: samples under many prunes, made in shards by whoever is free, scored together."""
