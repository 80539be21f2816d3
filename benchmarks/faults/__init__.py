"""What is lost when things go away: each module starts a stack of its own, damages it, and says what was lost or wrong.

`python -m benchmarks.faults.NAME` prints a table of what each request was answered, and ends with status 1 if something
was lost or wrong. All is on loopback and in a temporary folder, and all that was started is ended.
"""
