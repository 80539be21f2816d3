"""The webhook of a request: who is told what happens to its job. It is no part of the job, which others may share."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, Field, model_validator

from jobs.webhooks.hosts import MOST_CHARACTERS

__all__ = ["WEBHOOK_EVENTS", "Subscriber", "Webhook", "WebhookEvent"]

WebhookEvent = Literal["started", "succeeded", "failed", "cancelled"]
WEBHOOK_EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)


class Webhook(NamedTuple):
    """A URL, and the events for which it is called."""

    url: str
    events: tuple[WebhookEvent, ...]


class Subscriber(BaseModel):
    """The fields of a webhook, which are left out wherever the request is written down."""

    webhook: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)] | None = Field(
        default=None,
        exclude=True,
        description="A URL that is called (POST) when something happens to the job, on one of the hosts that the "
        "service permits; `docs/webhooks.md` describes the call and its signature.",
        examples=["https://hooks.example.com/tailprune?job=7"],
    )
    webhook_events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=len(WEBHOOK_EVENTS))] | None = Field(
        default=None,
        exclude=True,
        description="With `webhook`: the events for which it is called; `succeeded`, `failed` and `cancelled` by "
        "default. One that the job has already reached is told at once.",
        examples=[["started", "succeeded", "failed", "cancelled"]],
    )

    @model_validator(mode="after")
    def _events_of_a_webhook(self) -> Self:
        if self.webhook is None and self.webhook_events is not None:
            raise ValueError("webhook_events has no meaning without webhook: name the URL to call")
        return self

    @property
    def subscription(self) -> Webhook | None:
        """The webhook; None where the request has none."""
        if self.webhook is None:
            return None
        return Webhook(self.webhook, tuple(self.webhook_events or WEBHOOK_EVENTS[1:]))
