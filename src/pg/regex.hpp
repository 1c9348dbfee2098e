// PostgreSQL's own regular expressions behind core's interface, so that context_schema needs no other engine.
#pragma once

#include "core/schema.hpp"

namespace tasker::pg {

class Regex final : public core::SchemaRegex {
 public:
  bool matches(std::string_view pattern, std::string_view text) const override;
  std::string problem(std::string_view pattern) const override;
};

}  // namespace tasker::pg
