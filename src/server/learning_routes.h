// /v1/route, trajectories, feedback, agents, /v1/sona, and the routes of @claude-flow/providers.
#pragma once

#include "server/service.h"

namespace ruvltra {

Handled route(Call& call);
Handled get_agents(Call& call);
Handled put_agents(Call& call);
Handled trajectories(Call& call);
Handled trajectory_steps(Call& call);
Handled trajectory_end(Call& call);
Handled feedback(Call& call);
Handled sona_status_route(Call& call);
Handled sona_metrics(Call& call);
Handled sona_adapters(Call& call);
Handled sona_learn(Call& call);
Handled sona_rollback(Call& call);
Handled sona_reset(Call& call);
Handled sona_freeze(Call& call);
Handled sona_export(Call& call);
Handled sona_import(Call& call);
Handled sona_tasks(Call& call);
Handled sona_delete_tenant(Call& call);
Handled hnsw_search(Call& call);
Handled query(Call& call);
Handled stats(Call& call);
Handled provider_feedback(Call& call);

}  // namespace ruvltra
