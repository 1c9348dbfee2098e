// This database's nonce and hold, as far as its own row tells: for calls that look at each task's nonce themselves. That the
// first task or schedule comes from another database is looked at by load_home (store/facts.hpp).
// Precondition: inside pg::OwnerScope and pg::Spi.
#pragma once

#include "store/facts.hpp"

namespace tasker::store {

Home load_home_row();

}  // namespace tasker::store
