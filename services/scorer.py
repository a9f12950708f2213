"""The scorer: a BentoML service that serves the one package its code lies in.

Requests go through a mounted application and not through BentoML's typed methods, which are half as fast and leave so many
objects behind that the garbage collector decides the slowest answers.
"""

from __future__ import annotations

import bentoml

from services.endpoints import make_application
from services.exchange import ExchangeMiddleware
from services.serving import served_package

# Each request leaves a timer behind for this long, so it is short.
TRAFFIC_TIMEOUT_S = 2.0


@bentoml.asgi_app(make_application(), path="/", name="scorer")
class PackageScorer:
    """Scores rows with one version of one model."""

    def __init__(self) -> None:
        served_package()


# Called, not written above the class, because type checkers do not see what a decorator makes of a class.
Scorer = bentoml.service(
    name="scorer",
    workers=1,
    traffic={"timeout": TRAFFIC_TIMEOUT_S},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    # BentoML always installs the tracing middleware; one that excludes every address is the shortest way through it.
    tracing={"excluded_urls": ["."]},
)(PackageScorer)
Scorer.add_asgi_middleware(ExchangeMiddleware)
