// Rows of the functions that explain a figure: an item, its value, what it is.
#pragma once

#include <string>

#include "pg/args.hpp"

namespace tasker::api {

class Explanation {
 public:
  explicit Explanation(FunctionCallInfo fcinfo) : rows_(fcinfo) {}
  void line(const char *item, double value, const std::string &text) {
    rows_.text(item).datum(pg::numeric_from_double(value, 3)).text(text);
    rows_.end_row();
  }

 private:
  pg::RowSet rows_;
};

}  // namespace tasker::api
