"""A client of a running tailprune service, at once (`Client`) or awaited (`AsyncClient`).

    from tailprune_client import Client

    with Client("http://127.0.0.1:8000") as client:
        job = client.prune_sample("shapes-sit", threshold=0.038, labels=[0, 17]).wait()
        job.artifacts["grid.png"].save("grid.png")

It needs httpx, httpx-sse and pydantic (`pip install "tailprune[client]"`); neither torch nor Redis.

    client        the clients
    methods       their methods, written once:
    starting        those that start jobs
    statistics      those of a model's condition vectors
    jobs          a job: waited for, followed, cancelled
    artifacts     the files of a job
    pictures      figures
    contents      what files have in them, as arrays and pictures
    following     jobs by their events
    errors        what is raised: a class for each type of problem
    fields        the fields of requests
    progress      progress bars
    display       jobs in notebooks
    core          how requests are sent and repeated
    answers       what answers say
    effects       what operations are made of
    drivers       operations done at once, or awaited
"""

from tailprune_client import errors
from tailprune_client.artifacts import Artifact, AsyncArtifact
from tailprune_client.client import AsyncClient, Client
from tailprune_client.errors import *  # noqa: F403
from tailprune_client.following import Event
from tailprune_client.jobs import AsyncJob, Job
from tailprune_client.pictures import Picture

__all__ = ["Artifact", "AsyncArtifact", "AsyncClient", "AsyncJob", "Client", "Event", "Job", "Picture", *errors.__all__]
