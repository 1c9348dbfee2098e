// Runs a plan of the user's and keeps the first column of the first row; later rows are drained, not stored.
#pragma once

#include "pg/bridge.hpp"

namespace tasker::pg {

struct FirstValue {
  bool found = false;   // a row came
  bool null = true;
  Oid type = InvalidOid;
  Datum value = 0;      // in the context given
};
// Precondition: an Spi is alive. values/nulls as in SPI_execute_plan, nargs of them with the given types.
FirstValue run_first_value(SPIPlanPtr plan, int nargs, const Oid *types, const Datum *values, const bool *nulls, MemoryContext context);

}  // namespace tasker::pg
