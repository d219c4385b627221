#include "sona/learner.h"

#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "sona/learner_for_test.h"

namespace ruvltra {
namespace {

using namespace testing;

std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}
size_t n_files(const std::filesystem::path& folder) {
  size_t n = 0;
  for ([[maybe_unused]] const auto& item : std::filesystem::directory_iterator(folder)) ++n;
  return n;
}

// ---- What is made once.

TEST_F(LearnerTest, TheSpaceIsMadeOnceAndCheckedOnLoad) {
  const auto first = *TestLearner::open_space(language, folder.path());
  EXPECT_EQ(first->rebuilt().size(), 2u);
  EXPECT_GE(first->canary().size(), 1200u);
  const int n = language.n_passes;
  const auto again = *TestLearner::open_space(language, folder.path());
  EXPECT_TRUE(again->rebuilt().empty());
  EXPECT_EQ(language.n_passes, n);
  ASSERT_EQ(again->canary().size(), first->canary().size());
  for (size_t i = 0; i < first->canary().size(); i += 7) {
    const TokenRecord a = first->canary()[i], b = again->canary()[i];
    EXPECT_EQ(a.nll(), b.nll());
    EXPECT_TRUE(std::ranges::equal(a.ids, b.ids) && std::ranges::equal(a.features, b.features));
  }
  // A damaged file is made anew, with the same bytes.
  const auto file = folder.path() / "canary.rvc1";
  const std::string whole = bytes_of(file);
  std::string damaged = whole;
  damaged[damaged.size() / 2] ^= 1;
  std::ofstream(file, std::ios::binary) << damaged;
  const auto repaired = *TestLearner::open_space(language, folder.path());
  EXPECT_EQ(repaired->rebuilt().size(), 1u);
  EXPECT_EQ(bytes_of(file), whole);
}

TEST_F(LearnerTest, AnotherSeedIsAnotherSpace) {
  const auto first = *TestLearner::open_space(language, folder.path());
  LearningSpaceSpec spec = language.spec();
  spec.basis.seed = 2;
  const auto texts = TestLearner::canary();
  const auto other = *LearningSpace::open(folder.path(), spec, *language.world.head, texts, language.encode(),
                                          language.forward());
  EXPECT_EQ(other->rebuilt().size(), 2u);
  EXPECT_NE(other->basis()->hash(), first->basis()->hash());
  spec.min_canary_texts = 25;
  const auto few = LearningSpace::open(folder.path(), spec, *language.world.head, texts, language.encode(),
                                       language.forward());
  ASSERT_FALSE(few);
  EXPECT_EQ(few.error().id, "learning.few_texts");
}

// ---- Giving way.

TEST_F(LearnerTest, TextIsReadAtOnceForWhoWaits) {
  // Answers never end. After 50 ms of the engine's time the learner rests for 4.95 s and looks 990 times
  // whether they still go on; but for 150 ms, with 30 looks, once somebody waits for it. He may be late by a
  // second.
  std::atomic<int> n_looks = 0;
  const auto pace = std::make_shared<LearningPace>([&] {
    ++n_looks;
    return true;
  });
  TestLearner ours(language, folder.path());
  const TeacherForced slow = [forward = language.forward(), pace](auto tokens, size_t n_context, auto layers,
                                                                  const TeacherForcedRow& row) {
    auto done = forward(tokens, n_context, layers, row);
    pace->engine_worked(0.05);
    return done;
  };
  LearnerOptions options = ours.options();
  options.pace = pace;
  const TestFolder own;
  const auto learner = *Learner::open(ours.space, *ours.store, own.path(), slow, options);
  ASSERT_TRUE(learner->enqueue(ours.signal("ann", language.text(65, random))));
  ASSERT_TRUE(learner->drain());
  EXPECT_GE(n_looks, 2);
  EXPECT_LE(n_looks, 300);
}

// ---- Background.

TEST_F(LearnerTest, AnAuthorIsLearnedAndTheReportSaysWhatWasMeasured) {
  TestLearner t(language, folder.path());
  t.teach("ann", 110, random, author);
  const LearnReport report = t.learn("ann");
  ASSERT_TRUE(report.accepted) << report.reason << ": " << report.detail;
  EXPECT_EQ(report.generation, 1u);
  EXPECT_GT(report.gain_lower_bound, 0);
  EXPECT_GT(report.update_norm, 0);
  const LiveAdapter live = t.learner->live(ann);
  EXPECT_EQ(live.generation, 1u);
  EXPECT_EQ(live.adapter->hash(), report.hash);
  // Unseen text of the same author, by the full softmax.
  std::vector<std::vector<TokenId>> unseen;
  for (int i = 0; i < 40; ++i) unseen.push_back(language.text(65, random, author));
  const double base = language.nll(Adapter::zero(t.space->basis()), unseen);
  const double adapted = language.nll(*live.adapter, unseen);
  EXPECT_LT(adapted, base - 0.05);
  EXPECT_NEAR(base - adapted, report.nll_before - report.nll_after, 0.05);
  // The row in the store, and the file it names.
  const auto row = *t.store->live("ann", "");
  ASSERT_TRUE(row);
  EXPECT_EQ(row->content, report.hash);
  EXPECT_EQ(row->reason, "background");
  EXPECT_EQ(
      bytes_of(folder.path() / "adapters" / row->file),
      std::string(reinterpret_cast<const char*>(live.adapter->bytes().data()), live.adapter->bytes().size()));
}

TEST_F(LearnerTest, ScoresThatSayNothingAreRefused) {
  // The model's own answers with shuffled scores: there is nothing to learn. Each tenant is one attempt.
  TestLearner t(language, folder.path());
  const int n_tenants = n_draws(200);
  int n_accepted = 0, n_tried = 0;
  for (int tenant = 0; tenant < n_tenants; ++tenant) {
    const std::string name = "t" + std::to_string(tenant);
    for (int i = 0; i < 110; ++i) {
      LearningSignal one = t.signal(name, language.text(65, random), LearningSignalKind::kQuality);
      one.quality = static_cast<double>(random() % 1001) / 1000;
      ASSERT_TRUE(t.learner->enqueue(std::move(one)));
    }
    const LearnReport report = t.learn(name);
    n_accepted += report.accepted;
    n_tried += report.reason == "G1 evidence" || report.accepted;
  }
  EXPECT_GT(n_tried, n_tenants / 2);
  // 5 % of attempts, and the margin of a binomial count.
  EXPECT_LE(n_accepted, 0.05 * n_tenants + 1.65 * std::sqrt(0.05 * 0.95 * n_tenants) + 1);
  EXPECT_GT(t.count("no_baseline"), 0u);
  EXPECT_GT(t.count("no_advantage"), 0u);
}

TEST_F(LearnerTest, ScoresTeachOnlyAgainstEarlierOutcomes) {
  TestLearner t(language, folder.path());
  for (int i = 0; i < 20; ++i) {
    LearningSignal one = t.signal("ann", language.text(65, random), LearningSignalKind::kQuality);
    one.quality = 0.5;
    ASSERT_TRUE(t.learner->enqueue(std::move(one)));
  }
  ASSERT_TRUE(t.learner->drain());
  EXPECT_EQ(t.count("no_baseline"), 20u);
  const int n = language.n_passes;  // nothing was recorded of them
  for (const double quality : {0.5, 0.2, 0.9}) {
    LearningSignal one = t.signal("ann", language.text(65, random), LearningSignalKind::kQuality);
    one.quality = quality;
    ASSERT_TRUE(t.learner->enqueue(std::move(one)));
  }
  ASSERT_TRUE(t.learner->drain());
  EXPECT_EQ(t.count("no_advantage"), 2u);
  EXPECT_EQ(language.n_passes, n + 1);
}

TEST_F(LearnerTest, TenantsDoNotTouchEachOther) {
  std::vector<std::vector<TokenId>> anns, bobs;
  const auto other = language.world.normals(TestLanguage::kWidth, 0.6f);
  for (int i = 0; i < 110; ++i) anns.push_back(language.text(65, random, author));
  for (int i = 0; i < 110; ++i) bobs.push_back(language.text(65, random, other));
  Sha256Digest alone = {}, together = {};
  {
    TestLearner t(language, folder.path() / "a");
    for (const auto& text : anns) ASSERT_TRUE(t.learner->enqueue(t.signal("ann", text)));
    alone = t.learn("ann").hash;
  }
  TestLearner t(language, folder.path() / "b");
  for (size_t i = 0; i < anns.size(); ++i) {
    ASSERT_TRUE(t.learner->enqueue(t.signal("bob", bobs[i])));
    ASSERT_TRUE(t.learner->enqueue(t.signal("ann", anns[i])));
  }
  const LearnReport bob = t.learn("bob");
  ASSERT_TRUE(bob.accepted);
  EXPECT_TRUE(t.learner->live(ann).adapter->is_zero());
  together = t.learn("ann").hash;
  EXPECT_NE(alone, Sha256Digest{});
  EXPECT_EQ(alone, together);
  EXPECT_NE(bob.hash, together);
}

TEST_F(LearnerTest, ARestartGoesOnWhereItWas) {
  std::vector<std::vector<TokenId>> texts;
  for (int i = 0; i < 110; ++i) texts.push_back(language.text(65, random, author));
  Sha256Digest straight = {}, resumed = {};
  {
    TestLearner t(language, folder.path() / "a");
    for (const auto& text : texts) ASSERT_TRUE(t.learner->enqueue(t.signal("ann", text)));
    straight = t.learn("ann").hash;
  }
  for (const auto& [first, last] : {std::pair<size_t, size_t>{0, 50}, {50, 110}}) {
    TestLearner t(language, folder.path() / "b");
    for (size_t i = first; i < last; ++i) ASSERT_TRUE(t.learner->enqueue(t.signal("ann", texts[i])));
    ASSERT_TRUE(t.learner->drain());
    EXPECT_EQ(t.count("state_rejected"), 0u);
    if (last == 110) resumed = t.learn("ann").hash;
  }
  EXPECT_NE(straight, Sha256Digest{});
  EXPECT_EQ(straight, resumed);
  // What was published is live again.
  TestLearner t(language, folder.path() / "b");
  EXPECT_EQ(t.learner->live(ann).adapter->hash(), resumed);
  // No text counts twice.
  ASSERT_TRUE(t.learner->enqueue(t.signal("ann", texts[0])));
  ASSERT_TRUE(t.learner->drain());
  EXPECT_EQ(t.count("duplicates"), 1u);
}

TEST_F(LearnerTest, ADamagedStateIsThrownAway) {
  {
    TestLearner t(language, folder.path());
    t.teach("ann", 20, random, author);
    ASSERT_TRUE(t.learner->drain());
  }
  const auto file = state_file(folder.path() / "state", ann);
  std::string bytes = bytes_of(file);
  ASSERT_GT(bytes.size(), 1000u);
  bytes[bytes.size() / 2] ^= 4;
  std::ofstream(file, std::ios::binary) << bytes;
  TestLearner t(language, folder.path());
  EXPECT_EQ(t.learn("ann").reason, "too few tokens");
  EXPECT_EQ(t.count("state_rejected"), 1u);
}

// ---- Limits.

TEST_F(LearnerTest, PublishesAreRationedAndCanBeFrozen) {
  TestLearner t(language, folder.path(), [](LearnerOptions& options) { options.max_publishes_an_hour = 1; });
  t.teach("ann", 110, random, author);
  const auto n_frozen = [&] { return t.learner->status().frozen.size(); };
  EXPECT_EQ(n_frozen(), 0u);
  ASSERT_TRUE(t.learner->freeze(ann, 60));
  ASSERT_EQ(n_frozen(), 1u);
  EXPECT_EQ(t.learner->status().frozen[0].tenant, "ann");
  EXPECT_EQ(t.learn("ann").reason, "frozen");
  t.now += 61'000'000;
  EXPECT_EQ(n_frozen(), 0u);
  ASSERT_TRUE(t.learn("ann").accepted);
  t.teach("ann", 110, random, author);
  EXPECT_EQ(t.learn("ann").reason, "G5 rate");
  t.now += int64_t{3600} * 1'000'000;
  EXPECT_NE(t.learn("ann").reason, "G5 rate");
}

TEST_F(LearnerTest, EvidenceServesOneAttempt) {
  TestLearner t(language, folder.path());
  t.teach("ann", 110, random, author);
  ASSERT_TRUE(t.learn("ann").accepted);
  EXPECT_EQ(t.learn("ann").reason, "no evidence yet");
}

TEST_F(LearnerTest, HostileSignalsAreRefusedOrBounded) {
  TestLearner t(language, folder.path(), [](LearnerOptions& options) {
    options.ring_capacity = 64;
    options.max_train_tokens = options.max_held_out_tokens = 1024;
  });
  const auto text = language.text(65, random, author);
  const auto refused = [&](auto change, std::string_view id) {
    LearningSignal one = t.signal("ann", text, LearningSignalKind::kQuality);
    one.quality = 0.5;
    change(one);
    const auto result = t.learner->enqueue(std::move(one));
    ASSERT_FALSE(result) << id;
    EXPECT_EQ(result.error().id, id);
  };
  refused([](LearningSignal& s) { s.quality = std::nan(""); }, "learning.bad_quality");
  refused([](LearningSignal& s) { s.quality = INFINITY; }, "learning.bad_quality");
  refused([](LearningSignal& s) { s.quality = 1.5; }, "learning.bad_quality");
  refused([](LearningSignal& s) { s.quality = {}; }, "learning.bad_signal");
  refused([](LearningSignal& s) { s.weight = std::nanf(""); }, "learning.not_finite");
  refused([](LearningSignal& s) { s.weight = 1e38f; }, "learning.bad_signal");
  refused([](LearningSignal& s) { s.weight = 0; }, "learning.bad_signal");
  refused([](LearningSignal& s) { s.tokens[3] = -1; }, "learning.bad_signal");
  refused([](LearningSignal& s) { s.tokens[3] = TestLanguage::kRows; }, "learning.bad_signal");
  refused([](LearningSignal& s) { s.n_context = 0; }, "learning.bad_signal");
  refused([](LearningSignal& s) { s.n_context = s.tokens.size(); }, "learning.bad_signal");
  refused([](LearningSignal& s) { s.tokens.assign(10'000, 1); }, "learning.bad_signal");
  refused([](LearningSignal& s) { s.scope.tenant = ""; }, "learning.bad_signal");
  refused([](LearningSignal& s) { s.scope.session = std::string(129, 'x'); }, "learning.bad_signal");
  EXPECT_EQ(t.learner->status().ring.n_put, 0u);
  // The same again, and too much of it.
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(t.learner->enqueue(t.signal("ann", text)));
  t.teach("ann", 200, random, author);
  ASSERT_TRUE(t.learner->drain());
  const LearnerStatus status = t.learner->status();
  EXPECT_EQ(status.ring.n_put, 3200u);
  EXPECT_EQ(status.ring.n_waiting, 0u);
  EXPECT_EQ(status.counters.at("signals") + status.ring.n_overwritten, 3200u);
  EXPECT_LE(t.count("signals") - t.count("duplicates"), 201u);
  const LearnReport report = t.learn("ann");
  EXPECT_LE(report.n_train_tokens, 1024u);
  EXPECT_LE(report.n_held_out_tokens, 1024u);
}

TEST_F(LearnerTest, TextStaysOnItsSideOfTheSplit) {
  TestLearner t(language, folder.path());
  LearningSignal one = t.signal("ann", language.text(65, random));
  one.split = Split::kHoldout;
  ASSERT_TRUE(t.learner->enqueue(one));
  one.trajectory = new_record_id();
  one.split = Split::kTrain;
  ASSERT_TRUE(t.learner->enqueue(one));
  ASSERT_TRUE(t.learner->drain());
  EXPECT_EQ(t.count("other_side"), 1u);
  const LearnReport report = t.learn("ann");
  EXPECT_EQ(report.n_train_tokens, 0u);
  EXPECT_EQ(report.n_held_out_tokens, 64u);
}

// ---- Sessions, operators, deletion.

TEST_F(LearnerTest, ASessionLearnsFromItsOwnText) {
  TestLearner t(language, folder.path());
  const Scope session{.tenant = "ann", .session = "s1"};
  LearnReport report;
  int n_rounds = 0;
  for (; n_rounds < 8 && !report.accepted; ++n_rounds) {
    t.teach("ann", 20, random, author, "s1");
    report = t.learn("ann", "s1");
  }
  ASSERT_TRUE(report.accepted) << report.reason << ": " << report.detail;
  EXPECT_EQ(report.loop, LearnLoop::kInstant);
  EXPECT_EQ(t.learner->live(session).scope.session, "s1");
  EXPECT_EQ(t.learner->live(session).adapter->hash(), report.hash);
  // Nobody else's answers change.
  EXPECT_EQ(t.learner->live({.tenant = "ann", .session = "s2"}).generation, 0u);
  EXPECT_TRUE(t.learner->live(ann).adapter->is_zero());
  std::vector<std::vector<TokenId>> unseen;
  for (int i = 0; i < 40; ++i) unseen.push_back(language.text(65, random, author));
  EXPECT_LT(language.nll(*t.learner->live(session).adapter, unseen),
            language.nll(Adapter::zero(t.space->basis()), unseen));
}

TEST_F(LearnerTest, ATenantIsOfferedTheMergeOfItsSessions) {
  TestLearner t(language, folder.path());
  const auto learn_session = [&](const std::string& tenant, const std::string& session) {
    LearnReport report;
    for (int round = 0; round < 8 && !report.accepted; ++round) {
      t.teach(tenant, 20, random, author, session);
      report = t.learn(tenant, session);
    }
    EXPECT_TRUE(report.accepted) << report.reason;
    return report.hash;
  };
  learn_session("bob", "s1");
  EXPECT_EQ(t.learner->run_deep("ann")->reason, "no sessions");
  // One session: its adapter as it is.
  const auto one = learn_session("ann", "s1");
  t.teach("ann", 40, random, author);  // evidence
  const auto alone = *t.learner->run_deep("ann");
  ASSERT_TRUE(alone.accepted) << alone.reason << alone.detail;
  EXPECT_EQ(alone.loop, LearnLoop::kDeep);
  EXPECT_EQ(alone.t, 1);
  EXPECT_EQ(alone.hash, one);
  EXPECT_EQ(t.learner->history(ann).front().reason, "deep");
  EXPECT_EQ(t.learner->run_deep("ann")->reason, "no evidence yet");
  // Two: every value is between theirs.
  ASSERT_TRUE(t.learner->reset(ann));
  learn_session("ann", "s2");
  t.teach("ann", 40, random, author);
  const auto both = *t.learner->run_deep("ann");
  ASSERT_TRUE(both.accepted) << both.reason << both.detail;
  const auto merged = t.learner->live(ann).adapter;
  const auto a = t.learner->live({.tenant = "ann", .session = "s1"}).adapter;
  const auto b = t.learner->live({.tenant = "ann", .session = "s2"}).adapter;
  ASSERT_NE(a->hash(), b->hash());
  for (size_t i = 0; i < merged->b().size(); ++i) {
    EXPECT_GE(merged->b()[i], std::min(a->b()[i], b->b()[i]));
    EXPECT_LE(merged->b()[i], std::max(a->b()[i], b->b()[i]));
  }
  std::vector<std::vector<TokenId>> unseen;
  for (int i = 0; i < 40; ++i) unseen.push_back(language.text(65, random, author));
  EXPECT_LT(language.nll(*merged, unseen), language.nll(Adapter::zero(t.space->basis()), unseen));
}

TEST_F(LearnerTest, AdaptersOfSeveralMachinesBecomeOne) {
  TestLearner t(language, folder.path(), [](LearnerOptions& options) { options.gates.max_drift = 0.05; });
  const size_t n = 7 * TestLanguage::kWidth;
  std::vector<std::filesystem::path> files;
  for (const float value : {0.01f, 0.02f, 1e4f}) {
    const auto adapter = *Adapter::make(t.space->basis(), std::vector<float>(n, value));
    files.push_back(folder.path() / std::to_string(files.size()));
    ASSERT_TRUE(adapter.save(files.back()));
  }
  const auto published = t.learner->merge_adapters(files, ann);
  ASSERT_TRUE(published) << published.error().message;
  EXPECT_EQ(published->reason, "merge");
  // Nobody needs to know which one is hostile: the middle value stays.
  for (const float value : t.learner->live(ann).adapter->b()) EXPECT_EQ(value, 0.02f);
  // The gates hold for merges too.
  const std::vector<std::filesystem::path> hostile(3, files[2]);
  EXPECT_EQ(t.learner->merge_adapters(hostile, ann).error().id, "learning.gate_rejected");
  EXPECT_EQ(t.learner->merge_adapters({}, ann).error().id, "learning.few_parts");
  EXPECT_EQ(t.learner->merge_adapters(std::vector(257, files[0]), ann).error().id, "learning.too_many_parts");
  files.push_back(folder.path() / "none");
  EXPECT_EQ(t.learner->merge_adapters(files, ann).error().id, "file.not_found");
  EXPECT_EQ(t.learner->live(ann).generation, 1u);
}

TEST_F(LearnerTest, OperatorsPassTheGatesOfTheCanary) {
  TestLearner t(language, folder.path(), [](LearnerOptions& options) { options.gates.max_drift = 0.05; });
  const auto adapter = [&](float size) {
    auto made = Adapter::make(t.space->basis(), language.world.normals(7 * TestLanguage::kWidth, size));
    return std::make_shared<const Adapter>(std::move(*made));
  };
  const auto wild = t.learner->publish(global_scope(), {}, adapter(2), "operator");
  ASSERT_FALSE(wild);
  EXPECT_EQ(wild.error().id, "learning.gate_rejected");
  ASSERT_TRUE(t.learner->publish(global_scope(), 0, adapter(0.02f), "operator"));
  EXPECT_EQ(t.learner->live(ann).scope.tenant, "");
  const auto late = t.learner->publish(global_scope(), 0, adapter(0.02f), "operator");
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().id, "store.conflict");
  // Export, import, and a file that was tampered with.
  const auto file = folder.path() / "out.adapter";
  ASSERT_TRUE(t.learner->export_adapter(global_scope(), {}, file));
  ASSERT_TRUE(t.learner->import_adapter(ann, file));
  EXPECT_EQ(t.learner->live(ann).adapter->hash(), t.learner->live(global_scope()).adapter->hash());
  std::string bytes = bytes_of(file);
  bytes[bytes.size() - 5] ^= 1;
  std::ofstream(file, std::ios::binary) << bytes;
  EXPECT_FALSE(t.learner->import_adapter(ann, file));
}

TEST_F(LearnerTest, DeletedDataIsGone) {
  TestLearner t(language, folder.path());
  t.teach("ann", 110, random, author);
  t.teach("bob", 110, random, author);
  ASSERT_TRUE(t.learn("ann").accepted);
  ASSERT_TRUE(t.learn("bob").accepted);
  const auto bob = t.learner->live({.tenant = "bob", .session = ""}).adapter->hash();
  EXPECT_EQ(n_files(folder.path() / "adapters"), 2u);
  ASSERT_TRUE(t.learner->delete_data("ann"));
  ASSERT_TRUE(t.store->delete_data("ann"));
  EXPECT_EQ(n_files(folder.path() / "adapters"), 1u);
  EXPECT_FALSE(std::filesystem::exists(state_file(folder.path() / "state", ann)));
  EXPECT_TRUE(t.learner->live(ann).adapter->is_zero());
  EXPECT_EQ(t.learner->live({.tenant = "bob", .session = ""}).adapter->hash(), bob);
  for (const LearnReport& report : t.learner->status().reports) EXPECT_NE(report.scope.tenant, "ann");
  EXPECT_EQ(t.learn("ann").reason, "too few tokens");
}

// Does any file below the folder hold these bytes?
bool is_anywhere(const std::filesystem::path& folder, const std::string& bytes) {
  for (const auto& item : std::filesystem::recursive_directory_iterator(folder)) {
    if (item.path().filename().string().find(bytes) != std::string::npos) return true;
    if (item.is_regular_file() && bytes_of(item.path()).find(bytes) != std::string::npos) return true;
  }
  return false;
}

TEST_F(LearnerTest, NothingOfADeletedTenantIsInAnyFile) {
  TestLearner t(language, folder.path());
  const std::string tenant = "marker-tenant-7f3a", session = "marker-session-91c2", task = "marker-task-55d0";
  const Scope scope{.tenant = tenant, .session = ""};
  t.teach(tenant, 110, random, author);
  t.teach(tenant, 10, random, author, session);
  ASSERT_TRUE(t.learn(tenant).accepted);
  const auto bytes = t.learner->live(scope).adapter->bytes();
  std::vector<std::string> markers = {tenant, session, task};
  markers.emplace_back(bytes.end() - 64, bytes.end());  // of B
  ASSERT_TRUE(t.learner->begin_task(scope, task));
  ASSERT_TRUE(t.learner->freeze(scope, 10));
  const auto session_scope = Scope{.tenant = tenant, .session = session};
  ASSERT_TRUE(t.learner->publish(session_scope, {}, t.learner->live(scope).adapter, "operator"));
  ASSERT_TRUE(t.learner->checkpoint());
  for (const auto& marker : markers) EXPECT_TRUE(is_anywhere(folder.path(), marker)) << marker;
  ASSERT_TRUE(t.learner->delete_data(tenant));
  ASSERT_TRUE(t.store->delete_data(tenant));
  ASSERT_TRUE(t.learner->checkpoint());
  for (const auto& marker : markers) EXPECT_FALSE(is_anywhere(folder.path(), marker)) << marker;
  // The name may begin anew.
  const auto adapter = *Adapter::make(t.space->basis(), std::vector<float>(7 * TestLanguage::kWidth, 0.01f));
  EXPECT_TRUE(t.learner->publish(scope, 0, std::make_shared<const Adapter>(adapter), "operator"));
}

TEST_F(LearnerTest, ADeletedSessionLeavesTheTenantsRecords) {
  {
    TestLearner t(language, folder.path());
    for (int i = 0; i < 30; ++i) {
      LearningSignal one = t.signal("ann", language.text(65, random));
      one.scope.session = i % 3 == 0 ? "" : i % 3 == 1 ? "s1" : "s2";
      one.split = Split::kHoldout;
      ASSERT_TRUE(t.learner->enqueue(one));
    }
    EXPECT_EQ(t.learn("ann").n_held_out_tokens, 30 * 64u);
    ASSERT_TRUE(t.learner->delete_data("ann", "s1"));
    EXPECT_EQ(t.learn("ann").n_held_out_tokens, 20 * 64u);
    EXPECT_FALSE(
        std::filesystem::exists(state_file(folder.path() / "state", {.tenant = "ann", .session = "s1"})));
  }
  TestLearner t(language, folder.path());
  EXPECT_EQ(t.learn("ann").n_held_out_tokens, 20 * 64u);
  ASSERT_TRUE(t.learner->delete_data("ann", "s2"));
  EXPECT_EQ(t.learn("ann").n_held_out_tokens, 10 * 64u);
}

TEST_F(LearnerTest, LoopsRunByThemselves) {
  std::atomic<int> n_backgrounds = 0, n_deep = 0;
  std::atomic<bool> due = false;
  TestLearner t(language, folder.path(), [&](LearnerOptions& options) {
    options.automatic = true;
    options.after_background = [&](const std::string& tenant) { n_backgrounds += tenant == "ann"; };
    options.after_deep = [&] { ++n_deep; };
    options.deep_is_due = [&] { return due.exchange(false); };
  });
  t.teach("ann", 110, random, author);
  for (int i = 0; i < 600 && t.learner->live(ann).generation == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_GE(t.learner->live(ann).generation, 1u);
  const auto wait_for = [](const std::atomic<int>& n) {
    for (int i = 0; i < 600 && n == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return n.load();
  };
  EXPECT_GE(wait_for(n_backgrounds), 1);
  EXPECT_EQ(n_deep, 0);
  due = true;
  EXPECT_EQ(wait_for(n_deep), 1);
  t.now += int64_t{8} * 24 * 3600 * 1'000'000;  // a week and a day
  n_deep = 0;
  EXPECT_EQ(wait_for(n_deep), 1);
  t.learner->stop();
  const auto late = t.learner->learn(ann);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().id, "learning.stopped");
  EXPECT_GE(t.learner->live(ann).generation, 1u);
}

}  // namespace
}  // namespace ruvltra
