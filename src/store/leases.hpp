// Leases: who works on which external step, under which token, until when. A lease whose step has moved is void.
// Precondition of all: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pg/bridge.hpp"
#include "store/keys.hpp"

namespace tasker::store {

struct NewLease {
  StepKey key;
  int moves = 0;  // of the step, after the claim
};
struct LeaseTerms {
  std::string queue, worker;
  Oid claimed_by = InvalidOid;
  TimestampTz claimed_at = 0, until = 0;
};
// Their tokens (uuid), in the order of leases, in the current memory context. A void lease in the way is replaced.
std::vector<Datum> insert_leases(const std::vector<NewLease> &leases, const LeaseTerms &terms);

struct HeldLease {
  StepKey key;
  std::string queue, worker;
  int moves = 0;
};
struct LeaseToken {
  StepKey key;
  Datum token = 0;  // uuid
};
// Those of these that are valid by token and time are deleted, and given in no particular order.
std::vector<HeldLease> take_leases(const std::vector<LeaseToken> &tokens);
// The new end of the lease; nothing when the token is not valid, or the step has moved. It is never shortened.
std::optional<TimestampTz> extend_lease(const LeaseToken &token, TimestampTz until);
void drop_lease(const StepKey &key);
// True: it is gone, or there was none. False: it holds, for it was extended.
bool drop_expired_lease(const StepKey &key);
// Claimed steps of the queue that may be over by time.
std::vector<StepKey> overdue_leases(const std::string &queue, int limit);

struct LeaseFacts {
  std::optional<TimestampTz> until;  // of the lease with this token
  bool other = false;                // there is one with another token
  std::string state;                 // of the step
  std::string ended_as;              // the state the step went to with this token; empty when it has not
};
// Why a token is not valid.
LeaseFacts lease_facts(const LeaseToken &token);

}  // namespace tasker::store
