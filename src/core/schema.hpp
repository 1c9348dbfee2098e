// JSON Schema (draft 2020-12, the keywords listed in doc/reference.md): is the schema sound, and does a value fit it?
//
// Recursion is bounded by json.hpp's depth limit and by a budget of $ref steps, so that neither a hostile
// schema nor a hostile value exhausts the stack. Regular expressions are evaluated by whoever calls: the
// server passes PostgreSQL's own engine, tests pass a small stand-in. std::regex is not used anywhere: it
// recurses and crashes on long input.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.hpp"

namespace tasker::core {

struct SchemaRegex {
  virtual ~SchemaRegex() = default;
  // Does the pattern occur anywhere in text?
  virtual bool matches(std::string_view pattern, std::string_view text) const = 0;
  // Empty when the pattern compiles, else why not.
  virtual std::string problem(std::string_view pattern) const = 0;
};

struct Violation {
  std::string pointer;  // RFC 6901 into the value (validate) or into the schema (check_schema)
  std::string problem;  // "is required", "must be an integer" …
};

// Faults of a schema: unknown keywords, keywords of the wrong type, unresolvable $ref, patterns that do not compile.
std::vector<Violation> check_schema(const json &schema, const SchemaRegex &regex);
// Every violation (at most `limit`). Precondition: check_schema found none.
std::vector<Violation> validate(const json &schema, const json &value, const SchemaRegex &regex, std::size_t limit = 100);

}  // namespace tasker::core
