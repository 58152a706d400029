"""The gateway as one ASGI application."""

from collections.abc import Awaitable

from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from gateway.http.authentication import Authenticator
from gateway.http.event_pictures import EventPictureEndpoint
from gateway.http.front_page import front_page
from gateway.http.graphql_endpoint import GraphQLEndpoint
from gateway.http.health import HealthEndpoint
from gateway.http.media import MediaEndpoint
from gateway.http.metrics import GatewayMetrics
from gateway.http.middleware import RequestMiddleware
from gateway.http.websocket import WebSocketEndpoint


def make_application(
    graphql: GraphQLEndpoint,
    websockets: WebSocketEndpoint,
    media: MediaEndpoint,
    events: EventPictureEndpoint,
    health: HealthEndpoint,
    authenticator: Authenticator,
    metrics: GatewayMetrics,
) -> RequestMiddleware:
    """`/`, `/health` and `/ready` are open to everybody; every other path needs an API key."""
    routes = [
        Route("/", front_page),
        Route("/graphql", graphql, methods=["POST"]),
        WebSocketRoute("/graphql", websockets),
        Route("/media/{id}", media.original),
        Route("/media/{id}/thumbnail", media.thumbnail),
        Route("/media/{id}/poster", media.poster),
        Route("/media/{id}/playable", media.playable),
        Route("/media/{id}/frames/{index}", media.frame),
        Route("/media/{id}/frames/{index}/thumbnail", media.frame_thumbnail),
        Route("/events/{id}/clip", events.clip),
        Route("/events/{id}/preview", events.preview),
        Route("/health", health.live),
        Route("/ready", health.ready),
        Route("/metrics", health.metrics),
    ]
    router = Router(routes, redirect_slashes=False)

    def route(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Spares the most frequent request the way through Starlette's router."""
        is_query = scope["type"] == "http" and scope["path"] == "/graphql" and scope["method"] == "POST"
        return (graphql if is_query else router)(scope, receive, send)

    return RequestMiddleware(route, authenticator, metrics)
