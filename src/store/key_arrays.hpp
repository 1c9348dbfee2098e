// Keys as array parameters: of steps three parallel ones, of tasks one.
#pragma once

#include "pg/spi.hpp"
#include "store/keys.hpp"

namespace tasker::store {

struct KeyArrays {
  pg::ArrayBuilder task{INT8OID}, step{INT4OID}, element{INT4OID};

  void add(const StepKey &key) {
    task.int8(key.task_id);
    step.int4(key.step_no);
    element.int4(key.element);
  }
  // $1, $2, $3
  pg::Params params() { return pg::Params().datum(task.datum()).datum(step.datum()).datum(element.datum()); }
};

inline Datum id_array(const std::vector<std::int64_t> &task_ids) {
  pg::ArrayBuilder array(INT8OID);
  for (const std::int64_t id : task_ids) array.int8(id);
  return array.datum();
}

}  // namespace tasker::store
