// A decision as the document that clients read (docs/routing.md).
#pragma once

#include "base/json.h"
#include "ruvltra/routing.h"

namespace ruvltra {

Json routing_json(const RoutingDecision& decision);

}  // namespace ruvltra
