#include "core/diagnosis.hpp"

#include <gtest/gtest.h>

#include <set>

#include "core/utc.hpp"

namespace tasker::core {
namespace {

constexpr Moment kSecond = 1'000'000;
constexpr Moment kNow = 800'000'000 * kSecond;

using Parents = std::vector<std::vector<int>>;
const Parents kOne{{}};  // a step without parents

// A healthy server, a live task; steps a, b, c … with the parents given, all pending.
struct Case : TaskCase {
  Graph shape;

  explicit Case(Parents parents) : shape(std::move(parents)) {
    task_id = 7;
    ns = "shop", name = "order", version = "1.0.0";
    owner = owner_identifier = "alice";
    database_identifier = "app";
    now = kNow;
    facts.state = TaskState::kInProgress;
    facts.run_at = kNow - 100 * kSecond;
    created_at = kNow - 100 * kSecond;
    server.dispatcher_state = "running";
    server.launcher_pid = server.dispatcher_pid = 1;
    server.max_executors = server.max_concurrent_steps = 4;
    server.worker_slots_left = 8;
    for (int i = 0; i < shape.size(); ++i) {
      StepCase step;
      step.name = std::string(1, static_cast<char>('a' + i));
      step.timeout_ms = 60'000;
      steps.push_back(step);
    }
  }

  StepCase &operator[](char step) { return steps.at(static_cast<std::size_t>(step - 'a')); }

  void fail(char step, int attempts, const char *sqlstate, const char *category, bool permanent = false, const char *message = "no") {
    StepCase &s = (*this)[step];
    s.facts.state = StepState::kError;
    s.facts.attempts = attempts;
    s.facts.failed_permanently = permanent;
    for (int i = attempts; i > 0; --i) s.failures.push_back({i, sqlstate, message, category, kNow - kSecond, false});
  }

  std::vector<Finding> judged(int only_step = 0) {
    graph = &shape;
    std::vector<StepFacts> all;
    for (const StepCase &step : steps) all.push_back(step.facts);
    TaskFacts task_facts = facts;
    task_facts.held = !held.empty();
    task_facts.owner_can_connect = connect_problem.empty() && !owner_gone;
    const std::vector<Readiness> verdicts = assess(shape, task_facts, all, now);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      // A test that gives a reason of its own keeps it.
      if (steps[i].reason.empty()) {
        steps[i].readiness = verdicts[i];
        steps[i].reason = to_string(verdicts[i].reason);
      }
      if (steps[i].readiness.ready && !steps[i].ready_since) steps[i].ready_since = now - kSecond;
    }
    return diagnose(*this, only_step);
  }
  // "severity code" or "severity code(step)" of each, in order
  std::vector<std::string> told(int only_step = 0) {
    std::vector<std::string> out;
    for (const Finding &finding : judged(only_step))
      out.push_back(std::string(to_string(finding.severity)) + " " + finding.code +
                    (finding.step_no != 0 ? "(" + steps[static_cast<std::size_t>(finding.step_no - 1)].name + ")" : ""));
    return out;
  }
  Finding first() { return judged().front(); }
};

using Told = std::vector<std::string>;

TEST(Utc, CountsFromPostgresEpoch) {
  EXPECT_EQ(utc(0), "2000-01-01T00:00:00Z");
  EXPECT_EQ(utc(kSecond - 1), "2000-01-01T00:00:00Z");
  EXPECT_EQ(utc(-1), "1999-12-31T23:59:59Z");
  EXPECT_EQ(utc(826'536'600 * kSecond), "2026-03-11T09:30:00Z");
}

TEST(Diagnosis, AReadyStepRunsInAMoment) {
  Case task(kOne);
  EXPECT_EQ(task.told(), Told{"info ready(a)"});
  task['a'].ready_since = kNow - 6 * kSecond;
  EXPECT_EQ(task.told(), Told{"high not_dispatched(a)"});
  EXPECT_EQ(task.first().evidence["waited_seconds"], 6);
}

TEST(Diagnosis, NobodyDispatches) {
  const auto told_of = [](auto change) {
    Case task(kOne);
    task['a'].ready_since = kNow - 60 * kSecond;
    change(task.server);
    const Finding finding = task.first();
    return std::string(to_string(finding.severity)) + " " + finding.code + ": " + finding.evidence.value("cause", "");
  };
  EXPECT_EQ(told_of([](ServerCase &s) { s.launcher_alive = false; }), "critical not_dispatched: the launcher does not run");
  EXPECT_EQ(told_of([](ServerCase &s) { s.dispatcher_known = false; }), "critical not_dispatched: the launcher does not know this database");
  EXPECT_EQ(told_of([](ServerCase &s) { s.dispatcher_alive = false, s.failed_starts = 3; }),
            "critical not_dispatched: the dispatcher of this database failed to start 3 times in a row");
  EXPECT_EQ(told_of([](ServerCase &s) { s.dispatcher_alive = false, s.dispatcher_state = "starting"; }),
            "critical not_dispatched: no dispatcher runs for this database (starting)");
  EXPECT_EQ(told_of([](ServerCase &s) { s.session_pid = 5; }), "info run_by_session: ");
  EXPECT_EQ(told_of([](ServerCase &s) { s.preloaded = false; }), "critical no_preload: ");
  EXPECT_EQ(told_of([](ServerCase &s) { s.standby = true; }), "high standby: ");
}

TEST(Diagnosis, NoExecutorIsFree) {
  Case task(Parents{{}, {}});
  task.server.executors = task.server.busy_executors = 4;
  EXPECT_EQ(task.told(), Told{"medium worker_shortage"}) << "one finding for both steps";
  EXPECT_EQ(task.first().evidence["steps"], json({"a", "b"}));
  EXPECT_EQ(task.first().summary, "all 4 executors are busy");
  task.server.busy_executors = 3;
  EXPECT_EQ(task.told(), Told{"info ready"});
  task.server.executors = task.server.busy_executors = 1;
  task.server.worker_slots_left = 0;
  EXPECT_NE(task.first().summary.find("max_worker_processes"), std::string::npos);
  task.server.worker_slots_left = 1;
  EXPECT_EQ(task.told(), Told{"info ready"}) << "another executor can be started";
}

TEST(Diagnosis, InTheQueueOfAnExecutor) {
  Case task({{}, {}});
  task['a'].assigned = AssignedCase{99, kNow - 2 * kSecond};
  EXPECT_EQ(task.told(), (Told{"info assigned(a)", "info ready(b)"}));
  task['a'].ready_since = kNow - 6 * kSecond;
  EXPECT_EQ(task.told(), (Told{"medium assigned(a)", "info ready(b)"}));
  EXPECT_EQ(task.first().evidence["busy_since"], utc(kNow - 2 * kSecond));
  task.server.executors = task.server.busy_executors = 4;
  EXPECT_EQ(task.told(), (Told{"medium assigned(a)", "medium worker_shortage(b)"}));
}

TEST(Diagnosis, SomebodyHoldsTheRow) {
  Case task(kOne);
  task.lock = LockCase{42, "", kNow - 9 * kSecond, false};
  EXPECT_EQ(task.told(), Told{"medium locked"});
  EXPECT_EQ(task.first().evidence["pid"], 42);
  task.lock->own = true;
  EXPECT_EQ(task.first().advice, "Commit or roll back.");
  task.lock = LockCase{0, "transfer 7", kNow - 9 * kSecond, false};
  EXPECT_EQ(task.first().evidence["prepared"], "transfer 7");
  EXPECT_FALSE(task.first().evidence.contains("pid"));
}

TEST(Diagnosis, WaitingStepsShareOneFinding) {
  Case task(Parents{{}, {0}, {1}, {2}});
  task['a'].facts.state = StepState::kInProgress;
  task['a'].running = RunningCase{99, kNow - kSecond, "", {}};
  EXPECT_EQ(task.told(), (Told{"info blocked", "info running(a)"}));
  const Finding blocked = task.first();
  EXPECT_EQ(blocked.evidence["steps"], json({"b", "c", "d"}));
  EXPECT_EQ(blocked.evidence["step_count"], 3);
  EXPECT_EQ(blocked.evidence["waiting_for"], json({"a"})) << "what they wait for beyond each other";
  EXPECT_EQ(blocked.evidence["reason"], "dependencies");
  EXPECT_EQ(task.told(4), Told{"info blocked(d)"});
  EXPECT_EQ(task.judged(4).front().evidence["waiting_for"], json({"c"}));
}

TEST(Diagnosis, ALongListIsCut) {
  Parents parents{{}};
  for (int i = 1; i <= 25; ++i) parents.push_back({0});
  Case task(std::move(parents));
  const std::vector<Finding> found = task.judged();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].evidence["steps"].size(), 10u);
  EXPECT_EQ(found[0].evidence["step_count"], 25);
}

TEST(Diagnosis, WhatHoldsForAllIsToldOnce) {
  Case task(Parents{{}, {}});
  task.facts.paused = true;
  task.paused_by = Mover{"bob", "night", kNow};
  EXPECT_EQ(task.told(), Told{"medium blocked"});
  EXPECT_EQ(task.first().summary, "paused by bob (night)");
  EXPECT_EQ(task.first().evidence["by"], "bob");
  task.facts.paused = false;
  task['a'].reason = task['b'].reason = "";
  task.facts.run_at = kNow + 60 * kSecond;
  EXPECT_EQ(task.told(), Told{"info blocked"});
  EXPECT_EQ(task.first().evidence["until"], utc(task.facts.run_at));
  task['a'].reason = task['b'].reason = "";
  task.held = "a copy";
  EXPECT_EQ(task.told(), Told{"critical held"});
  EXPECT_EQ(task.told(1), Told{"critical held"});
}

TEST(Diagnosis, ASingleStepTaskIsPausedAsATask) {
  Case task(kOne);
  task.facts.paused = true;
  EXPECT_EQ(task.told(), Told{"medium blocked"});
  EXPECT_EQ(task.told(1), Told{"medium blocked"});
}

TEST(Diagnosis, TheOwner) {
  Case task(kOne);
  task.connect_problem = "role \"alice\" has no CONNECT privilege on this database";
  EXPECT_EQ(task.told(), Told{"high privilege_missing"});
  EXPECT_NE(task.first().advice.find("GRANT CONNECT ON DATABASE app TO alice"), std::string::npos);
  task.connect_problem = "";
  task['a'].reason = "";
  task.superuser_barred = true;
  EXPECT_EQ(task.told(), Told{"high superuser_owner_barred"});
  task.superuser_barred = false;
  task.owner_gone = true;
  EXPECT_EQ(task.told(), Told{"critical owner_gone"});
  task.facts.state = TaskState::kError;
  task.fail('a', 1, "28000", "privilege", true);
  task['a'].reason = "";
  EXPECT_EQ(task.told(), Told{"critical owner_gone"});
  Case ended(kOne);
  ended.facts.state = TaskState::kError;
  ended.connect_problem = "no CONNECT";
  ended.fail('a', 1, "TK002", "unknown", true);
  EXPECT_EQ(ended.told(), Told{"high failed(a)"}) << "what ended needs no connection";
}

TEST(Diagnosis, TheHandler) {
  Case task(Parents{{}, {0}});
  HandlerCase handler{"function", "shop.charge", "", "shop.charge(jsonb,jsonb)", "shop", false, true};
  task['a'].handler = task['b'].handler = handler;
  EXPECT_EQ(task.told(), (Told{"high privilege_missing", "info ready(a)", "info blocked(b)"}));
  EXPECT_EQ(task.first().evidence["missing"], json({"EXECUTE"}));
  EXPECT_EQ(task.first().advice, "GRANT EXECUTE ON FUNCTION shop.charge(jsonb,jsonb) TO alice.");
  task['a'].handler->may_use_schema = false;
  EXPECT_EQ(task.first().evidence["missing"], json({"USAGE", "EXECUTE"}));
  task['a'].handler->problem = "function shop.charge(jsonb, jsonb) or shop.charge(tasker.step_call) does not exist";
  task['b'].handler.reset();
  EXPECT_EQ(task.told(), (Told{"critical handler_missing(a)", "info ready(a)", "info blocked(b)"}));
}

TEST(Diagnosis, AMissingHandlerIsTheWholeAnswer) {
  Case task(kOne);
  task.facts.state = TaskState::kError;
  task.fail('a', 1, "42883", "code", true, "function shop.charge does not exist");
  task['a'].outcomes.recent = {20, 19};
  EXPECT_EQ(task.told(), Told{"high always_fails_at_this_input(a)"}) << "as long as the function can be called";
  task['a'].handler = HandlerCase{"function", "shop.charge", "function shop.charge does not exist", "", "", true, true};
  EXPECT_EQ(task.told(), Told{"critical handler_missing(a)"});
  EXPECT_NE(task.first().advice.find("tasker.retry_step(7, 'a')"), std::string::npos);
}

TEST(Failures, APrivilegeInsideTheStep) {
  Case task(kOne);
  task.fail('a', 1, "42501", "privilege", true, "permission denied for table orders");
  EXPECT_EQ(task.told(), Told{"high privilege_missing(a)"});
  EXPECT_EQ(task.first().evidence["message"], "permission denied for table orders");
}

TEST(Failures, TheNextAttemptComesByItself) {
  Case task(kOne);
  task.fail('a', 1, "08006", "connection");
  task['a'].facts.next_attempt_at = kNow + 30 * kSecond;
  EXPECT_EQ(task.told(), Told{"low transient_failure(a)"});
  EXPECT_EQ(task.first().evidence["next_attempt_at"], utc(kNow + 30 * kSecond));
  task['a'].reason = "";
  task['a'].facts.next_attempt_at = kNow - kSecond;
  EXPECT_EQ(task.told(), (Told{"low transient_failure(a)", "info ready(a)"}));
}

TEST(Failures, TheInputIsToBlame) {
  Case task(Parents{{}, {0}});
  task.facts.state = TaskState::kError;
  task.fail('a', 1, "22P02", "validation", true, "invalid input syntax for type integer: \"x\"");
  EXPECT_EQ(task.told(), (Told{"high failed(a)", "medium blocked(b)"})) << "nothing to compare with";
  task['a'].outcomes.day = {12, 11};
  EXPECT_EQ(task.told(), (Told{"high always_fails_at_this_input(a)", "medium blocked(b)"}));
  const Finding finding = task.first();
  EXPECT_EQ(finding.evidence["other_attempts"], 11) << "without this step's own";
  EXPECT_EQ(finding.evidence["other_successes"], 11);
  EXPECT_EQ(finding.evidence["sqlstate"], "22P02");
  EXPECT_FALSE(finding.evidence.contains("detail"));
}

TEST(Failures, OneFailureOfManyAttemptsIsNoPattern) {
  Case task(kOne);
  task.fail('a', 1, "P0001", "unknown");
  task['a'].facts.next_attempt_at = kNow + kSecond;
  task['a'].outcomes.day = {100, 99};
  EXPECT_EQ(task.told(), Told{"low transient_failure(a)"});
  Case again(kOne);
  again.fail('a', 2, "P0001", "unknown");
  again['a'].facts.next_attempt_at = kNow + kSecond;
  again['a'].outcomes.day = {100, 98};
  EXPECT_EQ(again.told(), (Told{"medium always_fails_at_this_input(a)", "low transient_failure(a)"}));
  again['a'].failures[0].message = "another";
  EXPECT_EQ(again.told(), Told{"low transient_failure(a)"}) << "two different errors";
  Case asked(kOne);
  asked.fail('a', 1, "TK002", "unknown", true);
  asked['a'].outcomes.day = {100, 99};
  EXPECT_EQ(asked.told(), Told{"high failed(a)"}) << "the handler decided";
}

TEST(Failures, TheHandlerIsToBlame) {
  Case task(kOne);
  task.fail('a', 3, "42P01", "code", true, "relation \"prices\" does not exist");
  task['a'].outcomes.recent = {8, 1};
  task['a'].outcomes.day = {1000, 900};
  EXPECT_EQ(task.told(), Told{"critical fails_everywhere(a)"}) << "what happened of late says more than the day";
  task['a'].outcomes.recent = {};
  task['a'].outcomes.day = {3, 0};
  EXPECT_EQ(task.told(), Told{"high failed(a)"}) << "its own failures say nothing about others";
  task['a'].outcomes.day = {6, 0};
  EXPECT_EQ(task.told(), Told{"critical fails_everywhere(a)"});
  EXPECT_EQ(task.first().evidence["other_attempts"], 3);
}

TEST(Failures, FirstAttemptsThatAreAlwaysRepeatedSayNothing) {
  Case task(kOne);
  task.fail('a', 1, "P0001", "unknown");
  task['a'].facts.next_attempt_at = kNow + kSecond;
  task['a'].outcomes.recent = {20, 0};
  task['a'].outcomes.later = {20, 20};
  EXPECT_EQ(task.told(), Told{"low transient_failure(a)"});
  task['a'].outcomes.later = {20, 0};
  EXPECT_EQ(task.told(), (Told{"high fails_everywhere(a)", "low transient_failure(a)"}));
}

TEST(Failures, TheLimitIsTooLow) {
  Case task(kOne);
  task.fail('a', 3, "08006", "connection");
  EXPECT_EQ(task.told(), Told{"high retry_limit_too_low(a)"});
  EXPECT_EQ(task.first().evidence["suggested_max_attempts"], 5);
  task['a'].facts.max_attempts = 2;
  EXPECT_EQ(task.told(), Told{"high failed(a)"}) << "the step itself asked for fewer";

  Case unknown(kOne);
  unknown.fail('a', 3, "P0001", "unknown");
  unknown['a'].failures[0].message = "different";
  EXPECT_EQ(unknown.told(), Told{"high failed(a)"});
  unknown['a'].outcomes.later = {10, 8};
  EXPECT_EQ(unknown.told(), Told{"high retry_limit_too_low(a)"}) << "later attempts succeed";
  EXPECT_EQ(unknown.first().evidence["later_successes"], 8);
  unknown['a'].outcomes.later = {10, 2};
  EXPECT_EQ(unknown.told(), Told{"high failed(a)"});

  Case once(kOne);
  once.fail('a', 1, "53300", "resource", true);
  once['a'].facts.retryable = false;
  EXPECT_EQ(once.told(), Told{"high retry_limit_too_low(a)"});
  EXPECT_EQ(once.first().evidence["retryable"], false);
  EXPECT_EQ(once.first().evidence["suggested_max_attempts"], 3) << "what the definition says already";
  Case permanent(kOne);
  permanent.fail('a', 1, "54000", "resource", true);
  EXPECT_EQ(permanent.told(), Told{"high failed(a)"}) << "another attempt would not have been made with any limit";
}

TEST(Failures, TheTimeout) {
  Case task(kOne);
  task.fail('a', 3, "57014", "timeout");
  EXPECT_EQ(task.told(), Told{"high timed_out(a)"});
  EXPECT_NE(task.first().summary.find("no run has ever finished"), std::string::npos);
  EXPECT_TRUE(task.first().evidence["longest_success_seconds"].is_null());
  task['a'].outcomes.max_ms = 29'999;
  EXPECT_EQ(task.told(), Told{"high timed_out(a)"});
  task['a'].outcomes.max_ms = 30'000;
  EXPECT_EQ(task.told(), Told{"high timeout_too_short(a)"});
  EXPECT_EQ(task.first().evidence["suggested_timeout_seconds"], 120) << "twice the limit at least";
  task['a'].durations = {12, 50'000, 58'000};
  EXPECT_EQ(task.first().evidence["suggested_timeout_seconds"], 174);
  EXPECT_EQ(task.first().evidence["longest_success_seconds"], 58);
}

TEST(Failures, ADeadlineIsNoTimeout) {
  Case task(Parents{{}, {0}});
  task.deadline_at = kNow - 10 * kSecond;
  task.finished_at = kNow - 9 * kSecond;
  task.facts.state = TaskState::kError;
  task.fail('a', 1, "57014", "timeout", true);
  task['a'].failures[0].by_deadline = true;
  EXPECT_EQ(task.told(), (Told{"high deadline_passed", "medium blocked(b)"}));
  task['a'].failures[0].by_deadline = false;
  EXPECT_EQ(task.told(), (Told{"high deadline_passed", "high timed_out(a)", "medium blocked(b)"}));
}

TEST(Diagnosis, ADeadlineComesNear) {
  Case task(kOne);
  task.deadline_at = kNow + 12 * kSecond;  // of 112
  EXPECT_EQ(task.told(), Told{"info ready(a)"});
  task.deadline_at = kNow + 11 * kSecond;
  EXPECT_EQ(task.told(), (Told{"medium deadline_near", "info ready(a)"}));
  EXPECT_EQ(task.first().evidence["seconds_left"], 11);
  task.deadline_at = kNow;
  EXPECT_EQ(task.told(), (Told{"high deadline_passed", "info ready(a)"}));
}

TEST(Failures, ACrash) {
  Case task(kOne);
  task.fail('a', 1, "57P02", "crashed", true);
  task['a'].crashes = 3;
  EXPECT_EQ(task.told(), Told{"high crashed(a)"});
  Case once(kOne);
  once['a'].crashes = 1;
  EXPECT_EQ(once.told(), (Told{"medium crashed(a)", "info ready(a)"}));
}

TEST(Failures, OnlyASkippableStepIsSkipped) {
  Case task({{}, {0}});
  task.fail('a', 1, "TK002", "unknown", true);
  EXPECT_EQ(task.judged()[0].advice.find("skip_step"), std::string::npos);
  EXPECT_EQ(task.judged()[1].advice.find("skip_step"), std::string::npos);
  task['a'].skippable = true;
  EXPECT_NE(task.judged()[0].advice.find("tasker.skip_step(7, 'a')"), std::string::npos);
  EXPECT_NE(task.judged()[1].advice.find("skip_step"), std::string::npos);
}

TEST(Failures, AnUnknownOutcome) {
  Case task(kOne);
  task.fail('a', 1, "08006", "outcome_unknown", true);
  EXPECT_EQ(task.told(), Told{"high outcome_unknown(a)"});
}

TEST(Diagnosis, Breakers) {
  Case task(Parents{{}, {}});
  for (const char step : {'a', 'b'}) {
    task[step].reason = "circuit_open: payments until 2025-05-08T06:14:00Z";
    task[step].readiness.reason = Blocking::kCircuitOpen;
    task[step].breaker = BreakerCase{"payments", "open", 5, false, "", "", kNow - 20 * kSecond, kNow + 10 * kSecond};
  }
  EXPECT_EQ(task.told(), Told{"medium breaker_open"});
  EXPECT_EQ(task.first().evidence["system"], "payments");
  EXPECT_EQ(task.first().evidence["until"], utc(kNow + 10 * kSecond));
  EXPECT_NE(task.first().summary.find("after 5 failures in a row"), std::string::npos);
  task['a'].breaker = BreakerCase{"payments", "open", 0, true, "bob", "upgrade", kNow - 20 * kSecond, {}};
  EXPECT_EQ(task.first().evidence["by"], "bob");
  EXPECT_NE(task.first().summary.find("opened by bob (upgrade)"), std::string::npos);
  EXPECT_EQ(task.first().advice.find("tasker.reset_breaker('payments')"), 0u) << "no trial comes by itself";
}

TEST(Diagnosis, ARunThatTakesTooLong) {
  Case task(kOne);
  task['a'].facts.state = StepState::kInProgress;
  task['a'].running = RunningCase{99, kNow - 30 * kSecond, "Lock: transactionid", {41}};
  EXPECT_EQ(task.told(), Told{"info running(a)"}) << "nothing is known about it";
  task['a'].durations = {10, 10'001, 12'000};
  EXPECT_EQ(task.told(), Told{"info running(a)"});
  task['a'].durations = {9, 100, 200};
  EXPECT_EQ(task.told(), Told{"info running(a)"}) << "too few runs";
  task['a'].durations = {10, 10'000, 12'000};
  EXPECT_EQ(task.told(), Told{"medium long_running(a)"});
  EXPECT_EQ(task.first().evidence["blocked_by"], json({41}));
  EXPECT_EQ(task.first().advice.find("What holds the lock is process 41:"), 0u);
  task['a'].running->blocked_by = {0};
  EXPECT_EQ(task.first().advice.find("What holds the lock is a prepared transaction:"), 0u);
  task['a'].durations = {10, 1, 2};
  task['a'].running->since = kNow - kSecond;
  EXPECT_EQ(task.told(), Told{"info running(a)"}) << "a second is not long";
}

TEST(Diagnosis, Cancelled) {
  Case task(Parents{{}, {0}, {1}});
  task['a'].facts.state = StepState::kCancelled;
  task['a'].mover = Mover{"bob", "", kNow};
  EXPECT_EQ(task.told(), (Told{"high cancelled(a)", "medium parent_cancelled"}));
  task.facts.state = TaskState::kError;
  EXPECT_EQ(task.told(), (Told{"high cancelled(a)", "medium parent_cancelled"}));
  task.facts.state = TaskState::kCancelled;
  task.ended_by = Mover{"bob", "too late", kNow};
  for (StepCase &step : task.steps) step.facts.state = StepState::kCancelled;
  EXPECT_EQ(task.told(), Told{"info cancelled"});
  EXPECT_EQ(task.first().summary, "the task was cancelled by bob (too late)");
  EXPECT_EQ(task.told(2), (Told{"info cancelled", "info cancelled(b)"}));
}

TEST(Diagnosis, Ends) {
  Case task(Parents{{}, {0}});
  task['a'].facts.state = StepState::kComplete;
  task['b'].facts.state = StepState::kSkipped;
  EXPECT_EQ(task.told(), Told{"info finishing"});
  EXPECT_EQ(task.told(2), Told{"info skipped(b)"});
  task.facts.state = TaskState::kComplete;
  EXPECT_EQ(task.told(), Told{"info complete"});
  EXPECT_EQ(task.first().evidence["skipped"], 1);
  EXPECT_EQ(task.told(1), (Told{"info complete", "info complete(a)"}));
  task.facts.state = TaskState::kResolvedManually;
  EXPECT_EQ(task.told(), Told{"info resolved_manually"});
  task.facts.state = TaskState::kError;
  EXPECT_EQ(task.told(), Told{"high failed"}) << "an error that no step explains";
  task['b'].facts.state = StepState::kPending;
  task['b'].reason = "";
  EXPECT_EQ(task.told(), Told{"info not_run(b)"});
}

TEST(Diagnosis, ConnectionsAndRetiredDefinitions) {
  Case task(kOne);
  task.server.connections = 80;
  task.server.max_connections = 100;
  task.retired = true;
  EXPECT_EQ(task.told(), (Told{"info definition_retired", "info ready(a)"}));
  task.server.connections = 81;
  EXPECT_EQ(task.told(), (Told{"medium connection_pressure", "info definition_retired", "info ready(a)"}));
  task.server.connections = 96;
  EXPECT_EQ(task.told(), (Told{"high connection_pressure", "info definition_retired", "info ready(a)"}));
  task.facts.state = TaskState::kComplete;
  EXPECT_EQ(task.told(), Told{"info complete"});
}

// Whatever the state of a task and of its steps: something is said, every finding has evidence and a place in the documents.
TEST(Diagnosis, NoTaskWithoutAReason) {
  const StepState states[] = {StepState::kPending, StepState::kInProgress, StepState::kComplete, StepState::kError,
                              StepState::kCancelled, StepState::kResolvedManually, StepState::kSkipped};
  const TaskState tasks[] = {TaskState::kPending, TaskState::kInProgress, TaskState::kComplete, TaskState::kError, TaskState::kCancelled, TaskState::kResolvedManually};
  int cases = 0;
  for (const TaskState state : tasks)
    for (const StepState a : states)
      for (const StepState b : states)
        for (const int attempts : {0, 1, 3})
          for (const bool paused : {false, true})
            for (const int only_step : {0, 1, 2}) {
              Case task(Parents{{}, {0}});
              task.facts.state = state;
              task.facts.paused = paused;
              task['a'].facts.state = a;
              task['b'].facts.state = b;
              task['a'].facts.attempts = task['b'].facts.attempts = attempts;
              const std::vector<Finding> found = task.judged(only_step);
              ASSERT_FALSE(found.empty()) << to_string(state) << " " << to_string(a) << " " << to_string(b) << " " << attempts << " " << only_step;
              for (const Finding &finding : found) {
                EXPECT_TRUE(finding.evidence.is_object() && !finding.evidence.empty()) << finding.code;
                EXPECT_FALSE(finding.summary.empty()) << finding.code;
                EXPECT_EQ(std::string(doc_of(finding.code)).rfind("doc/operations.md#", 0), 0u) << finding.code;
              }
              ++cases;
            }
  EXPECT_EQ(cases, 6 * 7 * 7 * 3 * 2 * 3);
}

TEST(Explain, ReadsLikeAReport) {
  Case task(Parents{{}, {0}, {0}});
  task.facts.state = TaskState::kError;
  task.finished_at = kNow - kSecond;
  task.fail('a', 3, "08006", "connection", false, "no route");
  EXPECT_EQ(explain(task, task.judged()),
            "Task 7: shop.order 1.0.0, owner alice\n"
            "State: error since 2025-05-08T06:13:19Z. Steps: 1 error, 2 pending.\n"
            "\n"
            "1. [high] a: retry_limit_too_low\n"
            "   gave up after 3 attempts with a failure that passes (08006: no route)\n"
            "   -> tasker.retry_step(7, 'a') tries again now. Give the step max_attempts 5 in a new version of its definition, or a longer backoff.\n"
            "   see doc/operations.md#failed-steps\n"
            "\n"
            "2. [medium] b, c: blocked\n"
            "   beneath a, which failed for good\n"
            "   -> Decide about a: tasker.retry_step, tasker.resolve_step_manually.\n"
            "   see doc/operations.md#why-a-step-waits");
}

TEST(Explain, IsCut) {
  Parents parents(30);
  Case task(std::move(parents));
  for (StepCase &step : task.steps) {
    step.facts.state = StepState::kError;
    step.facts.attempts = 1;
    step.facts.next_attempt_at = kNow + kSecond;
    step.failures.push_back({1, "08006", "no", "connection", kNow, false});
  }
  const std::string text = explain(task, task.judged());
  EXPECT_NE(text.find("10 more: SELECT * FROM tasker.diagnose_task(7);"), std::string::npos);
  EXPECT_EQ(text.find("21. "), std::string::npos);
}

}  // namespace
}  // namespace tasker::core
