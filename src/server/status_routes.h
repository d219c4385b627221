// How the server is: health, metrics, what runs, and the stream behind the dashboard.
#pragma once

#include "server/service.h"

namespace ruvltra {

Handled health(Call& call);
Handled ready(Call& call);
Handled metrics(Call& call);
Handled list_requests(Call& call);
Handled cancel_request(Call& call);
Handled kv_pages(Call& call);
Handled stats_stream(Call& call);
Handled page(Call& call);

}  // namespace ruvltra
