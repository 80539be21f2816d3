"""The job `study`: a model sampled under many prunes in shards, by all free workers, and scored.

shards            how a study is cut into shards, and the keys of what they hold
shard_maker       a shard made: sampled, decoded, measured, stored
measures          what is measured of each sample
scoring           from measured samples to the scores of a variant
tasks             the parts of a study that any worker can do
coordination      the worker that holds the job and the others, until every task is done
threshold_search  the largest threshold within a budget
results           the result as far as it is known, published while the study runs
exports           the finished study as JSON, CSV, Markdown and a figure
"""
