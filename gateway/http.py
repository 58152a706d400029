"""The gateway as one ASGI application: which path leads where."""

from starlette.routing import Route, Router, WebSocketRoute

from gateway.endpoint import GraphQLEndpoint
from gateway.guard import Doorkeeper, Guard
from gateway.health import Health
from gateway.media import MediaFiles
from gateway.metrics import Metrics
from gateway.sockets import Sockets


def make_app(
    graphql: GraphQLEndpoint,
    sockets: Sockets,
    media: MediaFiles,
    health: Health,
    doorkeeper: Doorkeeper,
    metrics: Metrics,
) -> Guard:
    """`/health` and `/ready` are open, everything else asks who calls."""
    routes = [
        Route("/graphql", graphql.post, methods=["POST"]),
        WebSocketRoute("/graphql", sockets),
        Route("/media/{id}", media.original),
        Route("/media/{id}/thumbnail", media.thumbnail),
        Route("/health", health.live),
        Route("/ready", health.ready),
        Route("/metrics", health.metrics),
    ]
    return Guard(Router(routes, redirect_slashes=False), doorkeeper, metrics)
