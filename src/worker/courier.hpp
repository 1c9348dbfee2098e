// The courier: one per database, while there are steps of type http to call. Connected as the bootstrap superuser like the
// dispatcher; runs no user code, and holds no transaction while a call is under way.
//
//   ring of keys ──▶ lanes_ (per server) ──begin──▶ runs_ (in libcurl) ──▶ ended_ ──write──▶ reports to the dispatcher
//                                          commit                                  commit
//
// A step is in_progress in its row, by a commit that has reached the disk, before its request leaves. Over the server's
// rate or max_concurrency it is not begun but waits here; so no attempt's time runs while it waits.
//
// What it must survive: being killed at any point (transfers tell its successor what was under way; a call that may not be
// repeated then ends as outcome_unknown), rows that move under a call (it is aborted), the same key given twice.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/ready_queue.hpp"
#include "engine/batch.hpp"
#include "http/call.hpp"
#include "http/socket_set.hpp"
#include "pg/memory.hpp"
#include "store/shared_state.hpp"
#include "store/transfers.hpp"

namespace tasker::worker {

// Rows of calls under way are looked at so often, and, when somebody may have moved them, after no more than the pause.
inline constexpr TimestampTz kRecheckEvery = USECS_PER_SEC;
inline constexpr TimestampTz kRecheckPause = 50 * 1000;

class Courier {
 public:
  Courier(store::CourierSlot &slot, std::int64_t nonce);
  // Until nothing has been under way for a minute, or the database stops.
  void run();

 private:
  struct Waiting {
    store::StepKey key;
    std::int32_t priority;
    std::uint64_t sequence;
    TimestampTz since;
    core::ReadyRank rank(int ageing_ms) const { return core::ready_rank(priority, since, ageing_ms * std::int64_t{1000}, sequence); }
  };
  // Steps of one server.
  struct Lane {
    core::ReadyQueue<Waiting> steps;  // of one group
    int running = 0;
    int max_concurrency = 1;
    std::optional<double> rate;   // calls a second
    double tokens = 1;
    TimestampTz counted_at = 0;   // tokens as of then
    TimestampTz read_at = 0;      // options of the server as of then

    void count_tokens(TimestampTz now);
    int room() const;
    TimestampTz next_token() const;
  };
  // One call under way.
  struct Run {
    store::Transfer transfer;
    std::string server;
    std::string step_name;
    http::Expectation expectation;
    bool aborted = false;
  };
  struct Ended {
    Run run;
    http::Outcome outcome;
    bool lost = false;            // by a courier before this one: it says nothing about the server
    int tries = 0;
    TimestampTz not_before = 0;
  };
  // A step that begins: its request waits for the commit.
  struct Beginning {
    Run run;
    http::Request request;
  };
  class Endpoints;

  // pass
  void take();
  void report();
  void publish();
  bool leave(TimestampTz now);
  long sleep_ms(TimestampTz now) const;
  bool idle() const { return runs_.empty() && ended_.empty() && waiting_ == 0 && left_.empty(); }
  void let_go(const store::StepKey &key, bool look_again);
  void set_aside(const store::StepKey &key);
  // beginnings (courier_begin.cpp)
  void begin();
  void read_lanes(TimestampTz now);
  std::vector<store::StepKey> pick(TimestampTz now);
  void begin(const std::vector<store::StepKey> &keys);
  engine::Batch::Begin decide(engine::Outcome &outcome, engine::OutsideEnd &end, const engine::Batch &batch, Endpoints &endpoints,
                              std::vector<Beginning> &beginnings);
  const http::Call &call_of(const store::CompiledDefinition &definition, const store::CompiledStep &step);
  void start(Beginning &&beginning);
  engine::BatchOptions options() const;
  // ends (courier_end.cpp)
  void collect();
  void write();
  void write(std::vector<Ended *> &&ends);
  void write_failed(Ended &ended, const pg::Caught &why);
  engine::OutsideEnd end_of(const Ended &ended) const;
  void recheck(TimestampTz now);
  void recover();

  store::CourierSlot &slot_;
  std::int64_t nonce_;
  pg::OwnedContext memory_;
  engine::NothingRuns observer_;
  http::SocketSet sockets_;
  http::Client client_;
  WaitEventSet *wait_set_;
  // Waiting or under way; true: given once more meanwhile, so its task is looked at when it leaves our hands.
  std::unordered_map<store::StepKey, bool, store::StepKeyHash> known_;
  std::map<std::string, Lane> lanes_;
  std::string next_lane_;                             // where the next round of picking starts
  std::size_t waiting_ = 0;
  int ageing_ms_ = -1;                                // by which the lanes are in order
  std::uint64_t sequence_ = 0;
  std::vector<store::CourierEntry> unsorted_;         // taken; their servers are looked up with the next beginning
  std::unordered_map<std::uint64_t, Run> runs_;       // by the client's number
  std::vector<Ended> ended_;
  std::deque<store::StepKey> left_;                   // to be reported
  std::map<std::pair<int, int>, http::Call> calls_;   // by definition and step
  std::uint32_t seen_rechecks_ = 0;
  TimestampTz rechecked_at_ = 0, idle_since_ = 0;
};

}  // namespace tasker::worker
