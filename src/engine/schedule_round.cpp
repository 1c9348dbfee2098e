#include "engine/schedule_round.hpp"

#include "core/utc.hpp"
#include "engine/control.hpp"
#include "engine/create.hpp"
#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/zone.hpp"

namespace tasker::engine {

namespace {

constinit pg::Query may_schedule{
    "SELECT pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE') FROM pg_catalog.pg_proc p"
    " WHERE p.pronamespace = 'tasker'::regnamespace AND p.proname = 'schedule_task'",
    1, {OIDOID}};

// Fire times are whole seconds; those of run_schedule_now are not.
std::string text_of(TimestampTz at) {
  std::string text = core::utc(at);
  const std::int64_t fraction = ((at % USECS_PER_SEC) + USECS_PER_SEC) % USECS_PER_SEC;
  if (fraction != 0) {
    char digits[8];
    snprintf(digits, sizeof digits, ".%06d", static_cast<int>(fraction));
    text.insert(text.size() - 1, digits);
  }
  return text;
}

// The owner's rights may have gone since he made the schedule.
void check_rights(const store::ScheduleRow &row) {
  if (role_is_gone(row.owner))
    throw tasker::Error("42704", "role with OID " + std::to_string(row.owner) + ", the owner of the schedule, does not exist", {},
                        "Unschedule it, and schedule it as another role.");
  if (!pg::execute(may_schedule, pg::Params().oid(row.owner)).rows.boolean(0, 1))
    throw tasker::Error(sqlstate::kInsufficientPrivilege, "role \"" + pg::role_name(row.owner) + "\" is not permitted to schedule tasks any more", {},
                        "tasker.grant_access() gives the level submitter.");
}

std::int64_t create_task(const store::ScheduleRow &row, TimestampTz at) {
  NewTasks request;
  request.ns = row.ns;
  request.name = row.name;
  request.creator = {row.owner, row.created_by};
  request.contexts = {store::schedule_context(row.schedule_id)};
  request.idempotency_keys = {"schedule:" + std::to_string(row.schedule_id) + ":" + text_of(at)};
  request.run_at = at + core::put_off(row.schedule_id, pg::unix_seconds(at), row.jitter);
  request.initiator = "schedule";
  request.reason = "schedule " + row.schedule_name + " at " + text_of(at);
  request.correlation_id = row.schedule_name + "@" + text_of(at);
  return create_tasks(request).front();
}

}  // namespace

bool passes_by_itself(const pg::Caught &error) {
  const std::string state_class = error.sqlstate.substr(0, 2);
  return state_class == "40" || state_class == "53" || state_class == "57" || state_class == "58" || state_class == "25" || error.sqlstate == "55P03";
}

ScheduleRound::ScheduleRound(const store::ScheduleRow &row, std::string ticked_by) : row_(row), ticked_by_(std::move(ticked_by)) {
  std::vector<TimestampTz> over;
  for (const store::OpenFire &fire : store::open_fires(row.schedule_id)) {
    if (!fire.task_id) queued_.push_back(fire.fire_time);
    else if (fire.live) running_.push_back(*fire.task_id);
    else over.push_back(fire.fire_time);
  }
  store::close_fires(row.schedule_id, over);
}

void ScheduleRound::cancel_running() {
  for (const std::int64_t task_id : running_) {
    const auto failure = pg::in_savepoint([&] { cancel_task(task_id, "schedule " + row_.schedule_name + " fires again"); });
    // TK004: it has ended meanwhile.
    if (failure && failure->sqlstate != sqlstate::kIllegalMove) throw tasker::Error(failure->sqlstate.c_str(), failure->message, failure->detail, failure->hint);
  }
  running_.clear();
}

// The fire's row is there. false: it had one before.
bool ScheduleRound::create(TimestampTz at, bool cancels) {
  if (!store::insert_fire(row_.schedule_id, at, store::FireOutcome::kCreated, ticked_by_)) return false;
  TASKER_FAULT("schedule.taken");
  check_rights(row_);
  if (cancels) cancel_running();
  const std::int64_t task_id = create_task(row_, at);
  store::set_fire_task(row_.schedule_id, at, task_id, ticked_by_);
  TASKER_FAULT("schedule.created");
  running_.push_back(task_id);
  return true;
}

// The task, if one was created.
std::optional<std::int64_t> ScheduleRound::take(TimestampTz at, core::Overlap overlap) {
  const auto without_task = [&](store::FireOutcome outcome, const std::string &why) {
    const bool fresh = store::insert_fire(row_.schedule_id, at, outcome, ticked_by_, why);
    if (fresh) taken_++;
    return fresh;
  };
  const std::string running = running_.empty() ? "" : "task " + std::to_string(running_.back()) + " has not ended";
  switch (core::on_fire(overlap, running_.size(), queued_.size())) {
    case core::OnFire::kSkip:
      without_task(store::FireOutcome::kSkipped, running.empty() ? "earlier fire times wait" : running);
      return std::nullopt;
    case core::OnFire::kQueueIsFull:
      without_task(store::FireOutcome::kSkipped, std::to_string(core::kMaxQueuedFires) + " earlier fire times wait");
      return std::nullopt;
    case core::OnFire::kQueue:
      if (without_task(store::FireOutcome::kQueued, running.empty() ? "earlier fire times wait" : running)) queued_.push_back(at);
      return std::nullopt;
    case core::OnFire::kCreate:
    case core::OnFire::kCancelAndCreate:
      if (!create(at, overlap == core::Overlap::kCancelRunning)) return std::nullopt;
      taken_++;
      tasks_++;
      return running_.back();
  }
  return std::nullopt;
}

void ScheduleRound::record_refusal(TimestampTz at, bool was_queued, const pg::Caught &refusal) {
  if (passes_by_itself(refusal)) throw tasker::Error(refusal.sqlstate.c_str(), refusal.message, refusal.detail, refusal.hint);
  const std::string message = refusal.sqlstate + ": " + refusal.message + (refusal.detail.empty() ? "" : " (" + refusal.detail + ")");
  if (was_queued) store::fail_fire(row_.schedule_id, at, message);
  else if (store::insert_fire(row_.schedule_id, at, store::FireOutcome::kFailed, ticked_by_, message)) taken_++;
}

void ScheduleRound::fire(TimestampTz at, core::Overlap overlap) {
  const std::vector<std::int64_t> running = running_;
  if (const auto refusal = pg::in_savepoint([&] { take(at, overlap); })) {
    running_ = running;  // a cancel was undone with it
    record_refusal(at, false, *refusal);
  }
}

std::optional<std::int64_t> ScheduleRound::fire_or_raise(TimestampTz at, core::Overlap overlap) { return take(at, overlap); }

void ScheduleRound::drain() {
  while (running_.empty() && !queued_.empty()) {
    const TimestampTz at = queued_.front();
    const auto refusal = pg::in_savepoint([&] {
      check_rights(row_);
      const std::int64_t task_id = create_task(row_, at);
      store::set_fire_task(row_.schedule_id, at, task_id, ticked_by_);
      running_.push_back(task_id);
      tasks_++;
    });
    if (refusal) record_refusal(at, true, *refusal);
    queued_.pop_front();
  }
}

}  // namespace tasker::engine
