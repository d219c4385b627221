#include "base/learning_json.h"

namespace ruvltra {

Json learning_report_json(const LearningReport& report) {
  Json tasks = Json::array();
  for (const TaskForgetting& task : report.forgetting)
    tasks.push_back({{"task", task.task}, {"nat", task.nat}, {"tokens", task.n_tokens}});
  return {{"loop", report.loop},
          {"accepted", report.accepted},
          {"reason", report.reason},
          {"detail", report.detail},
          {"generation", report.generation},
          {"nll_before", report.nll_before},
          {"nll_after", report.nll_after},
          {"gain_lower_bound", report.gain_lower_bound},
          {"canary_rise", report.canary_rise},
          {"canary_kl", report.canary_kl},
          {"delta_p999", report.delta_p999},
          {"update_norm", report.update_norm},
          {"train_tokens", report.n_train_tokens},
          {"held_out_tokens", report.n_held_out_tokens},
          {"forgetting", std::move(tasks)},
          {"time", report.time_us / 1'000'000}};
}

}  // namespace ruvltra
