"""What webhooks are sent, for the contract: these are requests that the service makes, and not one that it answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header

from jobs.views import WebhookBody

__all__ = ["router"]

router = APIRouter()


@router.post(
    "job",
    summary="Something happened to a job",
    operation_id="job_webhook",
    tags=["jobs"],
    status_code=204,
    responses={
        204: {"description": "Any 2xx: it was taken, and is not sent again."},
        410: {"description": "It is never sent again."},
        "default": {"description": "It is sent again later, also after a redirect, which is not followed."},
    },
)
def job_webhook(
    body: WebhookBody,
    webhook_id: Annotated[str, Header(description="The id of the call, the same in every try.")],
    webhook_timestamp: Annotated[int, Header(description="When this try was made, in seconds since the epoch.")],
    webhook_signature: Annotated[
        str,
        Header(
            description="`v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64; several are separated by spaces."
        ),
    ],
) -> None:
    """Sent to the `webhook` of a request, signed as Standard Webhooks define it."""
