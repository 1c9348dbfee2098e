// How calls end: what the answer means is written, rows that moved under a call abort it, and what an earlier courier left
// behind is ended for it.
#include <algorithm>
#include <array>

#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/settings.hpp"
#include "worker/courier.hpp"

namespace tasker::worker {

namespace {

using store::StepKey;

inline constexpr std::size_t kWriteAtOnce = 100;
inline constexpr int kPageSize = 1000;
inline constexpr int kTries = 5;
inline constexpr TimestampTz kWriteAgain = USECS_PER_SEC;
inline constexpr TimestampTz kRaceAgain = 20 * 1000;

// As the step's row and views keep it: a name that lives as long as the process.
const char *category_of(const std::string &name) {
  constexpr std::array kNames{"timeout",  "connection", "server_error", "rate_limit", "conflict",       "client_error",
                              "privilege", "validation", "resource",     "cancelled",  "outcome_unknown"};
  for (const char *known : kNames)
    if (name == known) return known;
  return "unknown";
}

std::int64_t seconds_since_1970() {
  return static_cast<std::int64_t>(GetCurrentTimestamp() / USECS_PER_SEC) + static_cast<std::int64_t>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
}

// What was sent is not known: the process that knew it is gone.
http::Outcome lost_call(bool repeatable) {
  http::Outcome outcome;
  outcome.category = repeatable ? "connection" : "outcome_unknown";
  outcome.retryable = repeatable;
  outcome.message = std::string(repeatable ? "" : "outcome unknown: ") + "the courier was lost while the call was under way";
  if (!repeatable) outcome.hint = "The request may have been sent, and idempotency is \"none\": find out at the endpoint whether it was served, then resolve or retry the step.";
  outcome.context = {{"failure", "courier_lost"}};
  return outcome;
}

}  // namespace

void Courier::collect() {
  for (http::Response &response : client_.finished()) {
    const auto found = runs_.find(response.id);
    if (found == runs_.end()) continue;
    Ended ended;
    ended.run = std::move(found->second);
    runs_.erase(found);
    lanes_[ended.run.server].running--;
    ended.outcome = http::judge(response, ended.run.expectation, seconds_since_1970());
    ended_.push_back(std::move(ended));
  }
}

void Courier::write() {
  while (!ended_.empty()) {
    const TimestampTz now = GetCurrentTimestamp();
    std::vector<Ended *> due;
    for (Ended &ended : ended_)
      if (ended.not_before <= now && due.size() < kWriteAtOnce) due.push_back(&ended);
    if (due.empty()) return;
    write(std::move(due));
    std::erase_if(ended_, [](const Ended &ended) { return ended.tries < 0; });
  }
}

// In one commit; those that are written have -1 tries then. Rows that somebody holds come later, without a wait for them.
void Courier::write(std::vector<Ended *> &&ends) {
  engine::BatchOptions settings = options();
  settings.tell = [&](int system, const StepKey &key, store::SystemWord word) {
    const bool lost = std::any_of(ends.begin(), ends.end(), [&](const Ended *ended) { return ended->lost && ended->run.transfer.key == key; });
    store::tell_breaker(system, key, lost ? store::SystemWord::kNothing : word);
  };
  engine::Batch batch(settings, observer_, memory_.get());
  std::vector<Ended *> written;
  TASKER_FAULT("courier.end");
  try {
    pg::Transaction transaction;
    std::vector<std::int64_t> locked;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      std::vector<std::int64_t> tasks;
      for (const Ended *ended : ends) tasks.push_back(ended->run.transfer.key.task_id);
      locked = store::lock_tasks(tasks);
    }
    std::vector<StepKey> keys;
    std::vector<engine::OutsideEnd> outcomes;
    std::vector<engine::Batch::Ending> endings;
    outcomes.reserve(ends.size());
    for (Ended *ended : ends) {
      const store::Transfer &transfer = ended->run.transfer;
      if (std::find(locked.begin(), locked.end(), transfer.key.task_id) != locked.end()) {
        ended->not_before = GetCurrentTimestamp() + kWriteAgain;
        continue;
      }
      written.push_back(ended);
      keys.push_back(transfer.key);
      if (ended->run.aborted) continue;
      outcomes.push_back(end_of(*ended));
      endings.push_back({transfer.key, transfer.moves, &outcomes.back()});
    }
    if (written.empty()) return;
    // Where somebody has moved the step nothing is left to be said.
    (void)batch.end_outside(endings);
    batch.record();
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      store::drop_transfers(keys);
    }
    transaction.commit();
  } catch (...) {
    const pg::Caught why = pg::describe_current_exception();
    if (why.sqlstate == "57P01") throw;
    if (ends.size() == 1) write_failed(*ends.front(), why);
    else
      for (Ended *ended : ends) write(std::vector<Ended *>{ended});
    return;
  }
  TASKER_FAULT("courier.ended");
  batch.count_outcomes();
  for (Ended *ended : written) {
    ended->tries = -1;
    let_go(ended->run.transfer.key, false);
  }
}

// A row that moved at the same moment is looked at again. What can't be written for what it is ends as a fault of its own.
void Courier::write_failed(Ended &ended, const pg::Caught &why) {
  const bool race = why.sqlstate == "40001" || why.sqlstate == "55P03" || why.sqlstate == "40P01";
  ended.not_before = GetCurrentTimestamp() + (race ? kRaceAgain : kWriteAgain);
  if (race) return;
  const StepKey &key = ended.run.transfer.key;
  pg::report(pg::Level::kLog, "tasker: could not record the call of step " + std::to_string(key.step_no) + " of task " + std::to_string(key.task_id) + ": " + why.message, why.detail,
             "It is tried again in a second.");
  if (++ended.tries < kTries || !ended.outcome.ok) return;
  ended.outcome.ok = false;
  ended.outcome.retryable = false;
  ended.outcome.category = "validation";
  ended.outcome.message = "the answer could not be recorded: " + why.message;
}

engine::OutsideEnd Courier::end_of(const Ended &ended) const {
  const http::Outcome &outcome = ended.outcome;
  engine::OutsideEnd end;
  if (outcome.ok) {
    const auto failure = pg::in_savepoint([&] {
      end.result = pg::jsonb_datum(outcome.result);
      engine::check_result_size(ended.run.step_name, end.result);
    });
    if (!failure) return end;
    end.result = 0;
    end.error = *failure;
    end.may_retry = false;  // the call has been served
    return end;
  }
  core::json detail = {{"context", outcome.context}};
  if (outcome.retry_after_seconds) detail["retry_after_seconds"] = *outcome.retry_after_seconds;
  if (!outcome.detail.empty()) detail["context"]["detail"] = outcome.detail;
  end.error = pg::Caught{outcome.retryable ? sqlstate::kRetryable : sqlstate::kPermanent, outcome.message,
                         detail.dump(-1, ' ', false, core::json::error_handler_t::replace), outcome.hint, {}};
  end.category = category_of(outcome.category);
  end.may_retry = outcome.retryable;
  return end;
}

// A step that was cancelled, or ran out of its task's time: its call is aborted.
void Courier::recheck(TimestampTz now) {
  const std::uint32_t asked = store::look_at_courier(slot_).rechecks;
  if (runs_.empty()) {
    seen_rechecks_ = asked;
    rechecked_at_ = now;
    return;
  }
  if (now - rechecked_at_ < (asked == seen_rechecks_ ? kRecheckEvery : kRecheckPause)) return;
  seen_rechecks_ = asked;
  rechecked_at_ = now;
  std::vector<std::uint64_t> ids;
  std::vector<store::Transfer> transfers;
  for (const auto &[id, run] : runs_) {
    if (run.aborted) continue;
    ids.push_back(id);
    transfers.push_back(run.transfer);
  }
  std::vector<std::size_t> moved;
  {
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      moved = store::moved_transfers(transfers);
    }
    transaction.commit();
  }
  for (const std::size_t place : moved) {
    runs_.at(ids[place]).aborted = true;
    (void)client_.cancel(ids[place]);
  }
}

// At the start nothing is under way: what transfers has, an earlier courier has left behind.
void Courier::recover() {
  const pg::ContextScope scope(memory_.get());
  pg::Transaction transaction;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    pg::Spi spi;
    StepKey after{0, 0, -1};
    for (;;) {
      const std::vector<store::Transfer> page = store::transfer_page(after, kPageSize);
      for (const store::Transfer &transfer : page) {
        after = transfer.key;
        Ended ended;
        ended.run.transfer = transfer;
        ended.lost = true;
        for (const store::LoadedStep &loaded : store::load_steps({transfer.key}, memory_.get())) {
          const store::DefinitionPtr definition = store::definition(loaded.task.named_task_id);
          const store::CompiledStep &step = definition->step(transfer.key.step_no);
          ended.outcome = lost_call(call_of(*definition, step).expectation().repeatable);
        }
        known_.emplace(transfer.key, false);
        ended_.push_back(std::move(ended));
      }
      if (static_cast<int>(page.size()) < kPageSize) break;
    }
  }
  transaction.commit();
}

}  // namespace tasker::worker
