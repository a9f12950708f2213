"""Request headers that the edge and the scorers both know."""

from __future__ import annotations

# Leads to a slot whatever the split is; what is asked with it is a test, and no evidence.
VARIANT_HEADER = "x-hotcold-variant"
ENTITY_HEADER = "x-entity-id"
SEGMENT_HEADER = "x-hotcold-segment"

# The edge sets it on the copy of a request that it mirrors, and takes it off requests that come from outside.
SHADOW_HEADER, SHADOW_VALUE = "x-hotcold-shadow", "1"
