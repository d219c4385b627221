// A decision put into words and numbers for whoever asked. Part of router.cpp.
#pragma once

#include <span>
#include <vector>

#include "sona/route_tenant.h"

namespace ruvltra {

// Fills everything of `decision` but id, task and latency. `p`: of all agents; `order`: enabled ones, the
// chosen first, then by p.
void describe(const RouteTenant& tenant, const RouteQuery& query, const RouteLanesOf& lanes,
              const RouteWeights& weights, std::span<const double> p, std::span<const size_t> order,
              const RouteOptions& options, RoutingDecision& decision);

}  // namespace ruvltra
