// What workers call: claim_steps, complete_step, fail_step and their kin; and what the view queues shows.
#include <algorithm>
#include <map>
#include <set>

#include "api/visibility.hpp"
#include "core/definition.hpp"
#include "core/json.hpp"
#include "engine/control.hpp"
#include "engine/queue.hpp"
#include "pg/args.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"

using namespace tasker;

namespace {

inline constexpr int kMaxSteps = 1000;
inline constexpr int kMaxStepsAtOnce = 100;  // each tells the dispatcher when its lease ends, and a transaction tells so much
inline constexpr std::size_t kMaxWorkerName = 128;
inline constexpr std::int64_t kMaxLease = std::int64_t{7} * 86400 * USECS_PER_SEC;
inline constexpr std::int64_t kMaxWait = 60 * USECS_PER_SEC;
// Bounds of one sleep: what frees a limit, or a circuit breaker that closes, wakes nobody.
inline constexpr long kSliceMs = 1000, kLimitedSliceMs = 100;

constinit pg::Query select_queues{
    "SELECT x.queue, x.owner::oid, x.created_by::oid, x.waiting, x.oldest, x.claimed, x.workers, l.max_claimed FROM ("
    " SELECT q.queue, t.owner, t.created_by, count(*) AS waiting, min(q.offered_at) AS oldest, 0::bigint AS claimed, '{}'::text[] AS workers"
    // An item outlives a step that is cancelled until a claim comes to it.
    " FROM tasker.queue_items q JOIN tasker.tasks t ON t.task_id = q.task_id AND t.live JOIN tasker.workflow_steps s ON s.task_id = q.task_id AND s.step_no = q.step_no"
    " AND s.element = q.element AND s.state IN ('pending', 'error') GROUP BY 1, 2, 3"
    " UNION ALL SELECT e.queue, t.owner, t.created_by, 0, NULL, count(*), array_agg(DISTINCT e.worker)"
    " FROM tasker.leases e JOIN tasker.tasks t ON t.task_id = e.task_id JOIN tasker.workflow_steps s ON s.task_id = e.task_id AND s.step_no = e.step_no"
    " AND s.element = e.element AND s.moves = e.moves GROUP BY 1, 2, 3"
    " UNION ALL SELECT DISTINCT d.handler ->> 'queue', 0::oid, 0::oid, 0, NULL::timestamptz, 0, '{}'::text[]"
    " FROM tasker.named_steps d JOIN tasker.named_tasks n USING (named_task_id) WHERE d.handler_type = 'external' AND n.retired_at IS NULL"
    " UNION ALL SELECT l.queue, 0::oid, 0::oid, 0, NULL, 0, '{}' FROM tasker.queue_limits l"
    ") x LEFT JOIN tasker.queue_limits l ON l.queue = x.queue ORDER BY x.queue",
    0, {}};

void check_queue(const std::string &queue) {
  if (const std::string problem = core::name_problem(queue, core::kMaxQueueName); !problem.empty())
    throw tasker::Error(sqlstate::kInvalidParameter, "queue " + problem);
}

std::int64_t lease_of(const pg::Args &args, int n) {
  const std::int64_t lease = args.microseconds(n, "lease");
  if (lease <= 0 || lease > kMaxLease)
    throw tasker::Error(sqlstate::kInvalidParameter, "lease must be positive and at most 7 days", {}, "extend_lease keeps a claim while its work goes on.");
  return lease;
}

engine::ClaimRequest read_request(const pg::Args &args) {
  engine::ClaimRequest request;
  request.queue = args.text(0, "queue");
  check_queue(request.queue);
  request.worker = args.text(1, "worker");
  if (request.worker.empty() || request.worker.size() > kMaxWorkerName ||
      std::any_of(request.worker.begin(), request.worker.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
    throw tasker::Error(sqlstate::kInvalidParameter, "worker must be a name of 1 to 128 bytes without control characters", {}, "Host and process id make a good one.");
  const int max_steps = args.int4(2, "max_steps");
  if (max_steps < 1 || max_steps > kMaxSteps) throw tasker::Error(sqlstate::kInvalidParameter, "max_steps must be from 1 to " + std::to_string(kMaxSteps));
  request.max_steps = std::min(max_steps, kMaxStepsAtOnce);
  request.lease = lease_of(args, 3);
  return request;
}

// Sees what others commit while it waits: not in a transaction that keeps its first snapshot.
void require_read_committed() {
  if (IsolationUsesXactSnapshot())
    throw tasker::Error(sqlstate::kObjectNotReady, "claim_steps cannot see new steps in REPEATABLE READ or SERIALIZABLE", {}, "Claim in READ COMMITTED.");
}

std::vector<engine::ClaimedStep> claim(const engine::ClaimRequest &request, std::int64_t wait, MemoryContext memory) {
  bool limited = false;
  if (wait == 0 || store::shared == nullptr) return engine::claim_steps(request, memory, &limited);
  const TimestampTz until = GetCurrentTimestamp() + wait;
  store::QueueWaiter waiter(request.queue);
  for (;;) {
    const bool unwritten = !TransactionIdIsValid(GetTopTransactionIdIfAny());
    std::vector<engine::ClaimedStep> steps = engine::claim_steps(request, memory, &limited);
    const TimestampTz left = until - GetCurrentTimestamp();
    if (!steps.empty() || left <= 0) return steps;
    const long ms = static_cast<long>(left / 1000) + 1;
    if (limited) {
      store::QueueWaiter::pause(std::min<long>(kLimitedSliceMs, ms));
      continue;
    }
    // Items that could not begin are out of the queue, or back in it, only when this transaction commits.
    if (unwritten && TransactionIdIsValid(GetTopTransactionIdIfAny())) return steps;
    waiter.sleep(std::min<long>(kSliceMs, ms));
  }
}

engine::StepToken read_token(const pg::Args &args) {
  return {args.int8(0, "task_id"), args.text(1, "step_name"), args.datum(2, "claim_token")};
}

// What raise_retryable and raise_permanent make of the same.
pg::Caught failure(const pg::Args &args, std::string message, int retryable, int retry_after, int max_attempts, int context) {
  core::json detail = core::json::object();
  if (!args.is_null(retry_after)) {
    const std::int64_t delay = args.microseconds(retry_after, "retry_after");
    if (delay < 0) throw tasker::Error(sqlstate::kInvalidParameter, "retry_after must not be negative");
    detail["retry_after_seconds"] = static_cast<double>(delay) / 1e6;
  }
  if (!args.is_null(max_attempts)) {
    const int limit = args.int4(max_attempts, "max_attempts");
    if (limit < 1) throw tasker::Error(sqlstate::kInvalidParameter, "max_attempts must be at least 1");
    detail["max_attempts"] = limit;
  }
  if (context >= 0 && !args.is_null(context)) detail["context"] = core::parse_json(args.json_text(context, "context"));
  return {args.boolean(retryable, "retryable") ? sqlstate::kRetryable : sqlstate::kPermanent, std::move(message), detail.dump(), {}, {}};
}

// task_ids, step_names and claim_tokens, each of one length.
std::vector<engine::ClaimEnd> read_ends(const pg::Args &args) {
  const std::vector<std::int64_t> tasks = args.int8s(0, "task_ids");
  const std::vector<std::string> names = args.texts(1, "step_names");
  const std::vector<NullableDatum> tokens = args.elements(2, UUIDOID);
  if (names.size() != tasks.size() || tokens.size() != tasks.size())
    throw tasker::Error(sqlstate::kInvalidParameter, "task_ids, step_names and claim_tokens must have the same length");
  std::vector<engine::ClaimEnd> ends(tasks.size());
  for (std::size_t i = 0; i < tasks.size(); i++) {
    if (tokens[i].isnull) throw tasker::Error("22004", "claim_tokens must not contain null");
    ends[i].step = {tasks[i], names[i], tokens[i].value};
  }
  return ends;
}

void end_many(FunctionCallInfo fcinfo, const std::vector<engine::ClaimEnd> &ends) {
  pg::RowSet rows(fcinfo);
  if (ends.empty()) return;
  const pg::OwnedContext memory(CurrentMemoryContext, "tasker ends");
  const std::vector<engine::EndedAs> outcomes = engine::end_claims(ends, memory.get());
  constexpr const char *names[] = {"done", "repeated", "stale"};
  for (std::size_t i = 0; i < ends.size(); i++)
    rows.int8(ends[i].step.task_id).text(ends[i].step.step_name).text(names[static_cast<std::size_t>(outcomes[i])]).end_row();
}

struct QueueLine {
  std::int64_t waiting = 0, claimed = 0;
  std::optional<TimestampTz> oldest;
  std::set<std::string> workers;
  std::optional<int> limit;
  bool shown = false;
};

// A claim is a lease: one that a crash of the server takes back was never made, its token is void, and the step is claimed
// again. So the commit of a statement that only claims need not wait for the disk. The end of a claim is an ordinary commit,
// behind which the claim is safe, too. Not in a transaction block, a function or a statement that writes.
void commit_without_waiting(FunctionCallInfo fcinfo) {
  const auto *set = reinterpret_cast<const ReturnSetInfo *>(fcinfo->resultinfo);
  pg::call([=] {
    const QueryDesc *top = ActivePortal == nullptr ? nullptr : ActivePortal->queryDesc;
    if (IsTransactionBlock() || top == nullptr || top->estate != set->econtext->ecxt_estate || top->operation != CMD_SELECT || top->plannedstmt->hasModifyingCTE) return;
    if (synchronous_commit > SYNCHRONOUS_COMMIT_OFF)
      (void)set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
  });
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_claim_steps) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const engine::ClaimRequest request = read_request(args);
    const std::int64_t wait = args.microseconds(4, "wait");
    if (wait < 0 || wait > kMaxWait) throw tasker::Error(sqlstate::kInvalidParameter, "wait must be from 0 to 60 seconds", {}, "Ask again when it is over.");
    require_read_committed();
    pg::RowSet rows(fcinfo);
    const pg::OwnedContext memory(CurrentMemoryContext, "tasker claim");
    commit_without_waiting(fcinfo);
    for (const engine::ClaimedStep &step : claim(request, wait, memory.get())) {
      rows.int8(step.task_id).text(step.step_name).int4(step.attempt).datum(step.token).datum(step.context).datum(step.results).datum(pg::jsonb_datum(step.config))
          .text_or_null(step.correlation_id).datum(TimestampTzGetDatum(step.lease_until)).end_row();
    }
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_complete_step) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    engine::ClaimEnd end{read_token(args), {}};
    if (!args.is_null(3)) end.end.result = args.jsonb(3, "result");
    const pg::OwnedContext memory(CurrentMemoryContext, "tasker end");
    return BoolGetDatum(engine::end_claim(end, memory.get()));
  });
}

TASKER_SQL_FUNCTION(tasker_fail_step) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    engine::ClaimEnd end{read_token(args), {}};
    end.end.error = failure(args, args.text(3, "message"), 4, 5, 6, 7);
    const pg::OwnedContext memory(CurrentMemoryContext, "tasker end");
    return BoolGetDatum(engine::end_claim(end, memory.get()));
  });
}

TASKER_SQL_FUNCTION(tasker_complete_steps) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    std::vector<engine::ClaimEnd> ends = read_ends(args);
    const std::vector<NullableDatum> results = args.elements(3, JSONBOID);
    if (!args.is_null(3) && results.size() != ends.size()) throw tasker::Error(sqlstate::kInvalidParameter, "results must have the length of task_ids, or be null");
    for (std::size_t i = 0; i < results.size(); i++) {
      const Datum value = results[i].value;
      if (!results[i].isnull) ends[i].end.result = pg::call([=] { return PointerGetDatum(DatumGetJsonbP(value)); });
    }
    end_many(fcinfo, ends);
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_fail_steps) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    std::vector<engine::ClaimEnd> ends = read_ends(args);
    const std::vector<std::string> messages = args.texts(3, "messages");
    if (messages.size() != ends.size()) throw tasker::Error(sqlstate::kInvalidParameter, "messages must have the length of task_ids");
    for (std::size_t i = 0; i < ends.size(); i++) ends[i].end.error = failure(args, messages[i], 4, 5, 6, -1);
    end_many(fcinfo, ends);
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_release_step) {
  return pg::entry([&]() -> Datum {
    const pg::OwnedContext memory(CurrentMemoryContext, "tasker release");
    return BoolGetDatum(engine::release_claim(read_token(pg::Args(fcinfo)), memory.get()));
  });
}

TASKER_SQL_FUNCTION(tasker_extend_lease) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t lease = lease_of(args, 3);
    return TimestampTzGetDatum(engine::extend_claim(read_token(args), lease));
  });
}

TASKER_SQL_FUNCTION(tasker_set_queue_limit) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string queue = args.text(0, "queue");
    check_queue(queue);
    std::optional<int> limit;
    if (!args.is_null(1)) limit = args.int4(1, "max_claimed");
    if (limit && *limit < 0) throw tasker::Error(sqlstate::kInvalidParameter, "max_claimed must not be negative", {}, "0 closes the queue; null removes the limit.");
    const Oid caller = GetUserId(), session = GetSessionUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    if (!engine::has_level(caller, "operator")) throw tasker::Error(sqlstate::kInsufficientPrivilege, "permission denied to limit queues");
    return BoolGetDatum(store::set_queue_limit(queue, limit, session));
  });
}

// Counts of what the reader sees; of a queue he works on, all.
TASKER_SQL_FUNCTION(tasker_queue_rows) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    const Oid reader = GetUserId();
    api::Viewer viewer(reader);
    std::map<std::string, QueueLine> lines;
    {
      pg::Spi spi;
      pg::OwnerScope as_owner(store::cached_extension_owner());
      const pg::Result found = pg::execute(select_queues, {}, pg::Access::kRead);
      const pg::Rows &r = found.rows;
      for (std::uint64_t i = 0; i < r.size(); i++) {
        const std::string queue = r.text(i, 1);
        const auto [line, first] = lines.try_emplace(queue);
        if (first) line->second.shown = viewer.sees_all() || engine::may_work_on(reader, queue);
        const Oid owner = r.oid(i, 2);
        const bool own = OidIsValid(owner) && viewer.sees(owner, r.oid(i, 3));
        QueueLine &l = line->second;
        if (!l.shown && !own) continue;
        l.waiting += r.int8(i, 4);
        l.claimed += r.int8(i, 6);
        const std::optional<TimestampTz> oldest = r.timestamp_or_null(i, 5);
        if (oldest) l.oldest = l.oldest ? std::min(*l.oldest, *oldest) : *oldest;
        for (const std::string &worker : r.texts(i, 7)) l.workers.insert(worker);
        if (!r.is_null(i, 8)) l.limit = r.int4(i, 8);
      }
      std::erase_if(lines, [](const auto &entry) { return !entry.second.shown && entry.second.waiting + entry.second.claimed == 0; });
    }
    for (const auto &[queue, line] : lines) {
      rows.text(queue).int8(line.waiting).timestamp_or_null(line.oldest).int8(line.claimed);
      if (line.limit) rows.int4(*line.limit);
      else rows.null();
      rows.datum(pg::text_array({line.workers.begin(), line.workers.end()})).end_row();
    }
    return Datum(0);
  });
}
