// How full the server's connections are.
#pragma once

namespace tasker::store {

// Client connections in use / max_connections, 0 … 1, measured at most every few seconds per process.
// Precondition: inside pg::OwnerScope and pg::Spi.
double connection_utilisation();

}  // namespace tasker::store
