// How calls begin: which steps may now, their requests, and the commit before anything is sent.
#include <algorithm>
#include <cmath>

#include "core/trace.hpp"
#include "engine/create.hpp"
#include "engine/endpoints.hpp"
#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/settings.hpp"
#include "worker/courier.hpp"

namespace tasker::worker {

namespace {

using store::StepKey;

inline constexpr std::size_t kBeginAtOnce = 100;
inline constexpr std::size_t kMaxCalls = 1024;              // definitions kept as parsed
inline constexpr TimestampTz kReadLanesEvery = USECS_PER_SEC;
inline constexpr double kBurstSeconds = 0.1;                // so much of a rate may come at once, and at least one call

// One trace a task, one span an attempt: its id says with which move it begins.
std::string traceparent(std::int64_t nonce, const engine::Outcome &outcome) {
  const store::StepRow &row = outcome.loaded.step;
  const int begin = row.moves + (row.state == core::StepState::kError ? 2 : 1);
  return core::traceparent(core::trace_of(nonce, row.key.task_id, outcome.loaded.correlation_id), core::span_id(nonce, row.key.task_id, row.key.step_no, row.key.element, begin));
}

http::Credentials copy_of(const http::Credentials &credentials) { return {credentials.kind, credentials.name, http::Secret(credentials.secret.text())}; }

}  // namespace

// What is read of servers and user mappings, once for the steps that begin together.
class Courier::Endpoints {
 public:
  // Raises what read_endpoint raises, for each that asks.
  const engine::EndpointRead &get(const std::string &server, Oid owner) {
    auto &found = read_[{server, owner}];
    if (!found) found.emplace(engine::read_endpoint(server, owner));
    return *found;
  }

 private:
  std::map<std::pair<std::string, Oid>, std::optional<engine::EndpointRead>> read_;
};

void Courier::Lane::count_tokens(TimestampTz now) {
  const TimestampTz since = counted_at;
  counted_at = now;
  if (!rate || since == 0) return;
  tokens = std::min(tokens + *rate * static_cast<double>(std::max<TimestampTz>(now - since, 0)) / USECS_PER_SEC, std::max(1.0, *rate * kBurstSeconds));
}

int Courier::Lane::room() const {
  const int free = max_concurrency - running;
  return rate ? std::min(free, static_cast<int>(tokens)) : free;
}

TimestampTz Courier::Lane::next_token() const {
  if (!rate || tokens >= 1) return counted_at;
  return counted_at + static_cast<TimestampTz>(std::ceil((1 - tokens) / *rate * USECS_PER_SEC));
}

engine::BatchOptions Courier::options() const {
  engine::BatchOptions options;
  options.nonce = nonce_;
  options.outside = true;
  return options;
}

void Courier::begin() {
  if (waiting_ == 0 && unsorted_.empty()) return;
  const TimestampTz now = GetCurrentTimestamp();
  read_lanes(now);
  const std::vector<StepKey> keys = pick(now);
  if (!keys.empty()) begin(keys);
}

// Which server each new step calls; and what their servers allow, as far as steps wait for it.
void Courier::read_lanes(TimestampTz now) {
  if (ageing_ms_ != store::settings.priority_ageing_ms) {
    ageing_ms_ = store::settings.priority_ageing_ms;
    for (auto &[_, lane] : lanes_) lane.steps.rework([&](const Waiting &waiting) { return std::optional(waiting.rank(ageing_ms_)); });
  }
  const auto stale = [&](const auto &entry) { return !entry.second.steps.empty() && now - entry.second.read_at >= kReadLanesEvery; };
  if (unsorted_.empty() && std::none_of(lanes_.begin(), lanes_.end(), stale)) return;
  pg::Transaction transaction;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    pg::Spi spi;
    for (const store::CourierEntry &entry : unsorted_) {
      const Waiting waiting{entry.key, entry.priority, sequence_++, now};
      lanes_[store::definition(entry.named_task_id)->step(entry.key.step_no).server].steps.push(0, waiting.rank(ageing_ms_), waiting);
      waiting_++;
    }
  }
  unsorted_.clear();
  for (auto &entry : lanes_) {
    if (!stale(entry)) continue;
    auto &[server, lane] = entry;
    const engine::EndpointLimits limits = engine::read_limits(server);
    lane.max_concurrency = limits.max_concurrency;
    lane.rate = limits.rate_per_second;
    lane.read_at = now;
  }
  transaction.commit();
}

// One of each server in turn, as long as there is room.
std::vector<StepKey> Courier::pick(TimestampTz now) {
  std::vector<StepKey> keys;
  std::size_t room = std::min(kBeginAtOnce, static_cast<std::size_t>(std::max(0, store::settings.http_max_concurrency - static_cast<int>(runs_.size()))));
  std::vector<std::pair<Lane *, int>> turns;
  const auto add = [&](auto begin, auto end) {
    for (auto it = begin; it != end; ++it) {
      it->second.count_tokens(now);
      if (!it->second.steps.empty() && it->second.room() > 0) turns.emplace_back(&it->second, it->second.room());
    }
  };
  const auto middle = lanes_.upper_bound(next_lane_);
  add(middle, lanes_.end());
  add(lanes_.begin(), middle);
  if (!turns.empty()) next_lane_ = std::find_if(lanes_.begin(), lanes_.end(), [&](const auto &entry) { return &entry.second == turns.front().first; })->first;
  while (room > 0 && !turns.empty()) {
    std::erase_if(turns, [&](auto &turn) {
      auto &[lane, left] = turn;
      if (room == 0) return true;
      keys.push_back(lane->steps.top().key);
      lane->steps.pop();
      waiting_--;
      room--;
      return --left == 0 || lane->steps.empty();
    });
  }
  return keys;
}

// In one commit. A row that is moved at the same moment spoils it: then each step for itself.
void Courier::begin(const std::vector<StepKey> &keys) {
  engine::Batch batch(options(), observer_, memory_.get());
  std::vector<Beginning> beginnings;
  std::vector<StepKey> free, held;
  try {
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      std::vector<std::int64_t> tasks;
      for (const StepKey &key : keys) tasks.push_back(key.task_id);
      const std::vector<std::int64_t> locked = store::lock_tasks(tasks);
      for (const StepKey &key : keys) (std::find(locked.begin(), locked.end(), key.task_id) == locked.end() ? free : held).push_back(key);
    }
    Endpoints endpoints;
    batch.load({free.begin(), free.end()});
    batch.begin_outside([&](engine::Outcome &outcome, engine::OutsideEnd &end) { return decide(outcome, end, batch, endpoints, beginnings); });
    batch.record();
    if (!beginnings.empty()) {
      std::vector<store::Transfer> transfers;
      for (const Beginning &beginning : beginnings) transfers.push_back(beginning.run.transfer);
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      store::add_transfers(transfers);
      ForceSyncCommit();  // what is sent must have begun, whatever synchronous_commit says
    }
    TASKER_FAULT("courier.begin");
    transaction.commit();
  } catch (...) {
    const pg::Caught why = pg::describe_current_exception();
    if (why.sqlstate == "57P01") throw;
    if (keys.size() > 1) {
      for (const StepKey &key : keys) begin(std::vector<StepKey>{key});
      return;
    }
    if (why.sqlstate != "55P03" && why.sqlstate != "40001") {
      const StepKey &key = keys.front();
      pg::report(pg::Level::kLog, "tasker: could not begin the call of step " + std::to_string(key.step_no) + " of task " + std::to_string(key.task_id) + ": " + why.message,
                 why.detail, "It is tried again in a second.");
    }
    set_aside(keys.front());
    return;
  }
  TASKER_FAULT("courier.begun");
  batch.count_outcomes();
  std::unordered_set<StepKey, store::StepKeyHash> begun;
  for (Beginning &beginning : beginnings) {
    begun.insert(beginning.run.transfer.key);
    start(std::move(beginning));
  }
  const std::vector<StepKey> &refused = batch.refused();
  for (const StepKey &key : held) set_aside(key);
  for (const StepKey &key : free)
    if (!begun.contains(key)) let_go(key, std::find(refused.begin(), refused.end(), key) != refused.end());
}

void Courier::start(Beginning &&beginning) {
  Lane &lane = lanes_[beginning.run.server];
  lane.running++;
  if (lane.rate) lane.tokens -= 1;
  const std::uint64_t id = client_.start(std::move(beginning.request));
  runs_.emplace(id, std::move(beginning.run));
}

const http::Call &Courier::call_of(const store::CompiledDefinition &definition, const store::CompiledStep &step) {
  const std::pair<int, int> place{definition.named_task_id, step.step_no};
  if (const auto found = calls_.find(place); found != calls_.end()) return found->second;
  if (calls_.size() >= kMaxCalls) calls_.clear();
  return calls_.emplace(place, http::Call(core::parse_json(step.handler))).first->second;
}

// Whatever keeps the request from being made ends the step here; what is repeated later is up to the kind of fault.
engine::Batch::Begin Courier::decide(engine::Outcome &outcome, engine::OutsideEnd &end, const engine::Batch &batch, Endpoints &endpoints,
                                     std::vector<Beginning> &beginnings) {
  const store::CompiledStep &step = outcome.step();
  const store::StepRow &row = outcome.loaded.step;
  if (step.type != store::HandlerType::kHttp) return engine::Batch::Begin::kLeave;
  const Oid owner = outcome.loaded.task.owner;
  if (engine::role_is_gone(owner)) {
    end.error = engine::gone_owner();
    end.may_retry = false;
    return engine::Batch::Begin::kEnd;
  }
  try {
    if (pg::is_superuser(owner) && !store::settings.allow_superuser_tasks)
      throw tasker::Error(sqlstate::kInsufficientPrivilege, "superusers may not own tasks", {}, "Set tasker.allow_superuser_tasks, or create the task again as another role.");
    const http::Call &call = call_of(*outcome.definition, step);
    const engine::EndpointRead &read = endpoints.get(call.server(), outcome.loaded.task.owner);
    http::CallContext context;
    context.user_agent = "tasker/" TASKER_VERSION;
    context.traceparent = traceparent(nonce_, outcome);
    context.timeout_seconds = step.timeout_seconds;
    context.max_response = static_cast<std::size_t>(store::settings.http_max_response_kb) * 1024;
    http::Request request = call.request(batch.document(outcome), read.endpoint, context);
    request.server = call.server();
    request.pool = std::to_string(read.server) + "/" + std::to_string(outcome.loaded.task.owner);
    request.credentials = copy_of(read.credentials);
    const int hops = row.state == core::StepState::kError ? 2 : 1;
    beginnings.push_back({{{row.key, row.moves + hops}, call.server(), step.name, call.expectation(), false}, std::move(request)});
    outcome.metadata = "\"server\": " + core::json(call.server()).dump();
    return engine::Batch::Begin::kBegin;
  } catch (const tasker::Error &error) {
    end.error = pg::Caught{error.sqlstate(), error.message(), error.detail(), error.hint(), {}};
    end.may_retry = false;
    return engine::Batch::Begin::kEnd;
  }
}

}  // namespace tasker::worker
