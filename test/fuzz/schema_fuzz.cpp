// Fuzzes parse_json, check_schema and validate: whatever the bytes, nothing but tasker::Error comes out.
//
// The input is a schema, a line feed, and a value. Build and run, from this directory:
//   clang++-14 -std=c++20 -g -O1 -I../../src -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
//       -o schema_fuzz schema_fuzz.cpp ../../src/core/json.cpp ../../src/core/schema*.cpp
//   ./schema_fuzz -dict=schema.dict -max_total_time=60 corpus
#include <cstdint>
#include <cstdlib>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/schema.hpp"

namespace {

using namespace tasker;

struct PlainTextRegex : core::SchemaRegex {
  bool matches(std::string_view pattern, std::string_view text) const override { return text.find(pattern) != std::string_view::npos; }
  std::string problem(std::string_view pattern) const override { return pattern.starts_with('(') ? "unbalanced" : ""; }
};

void require(bool condition) {
  if (!condition) std::abort();
}

void check_reports(const std::vector<core::Violation> &violations, std::size_t limit) {
  require(violations.size() <= limit);
  for (const core::Violation &violation : violations) {
    require(!violation.problem.empty());
    core::json(violation.problem + violation.pointer).dump();  // raises when it is not UTF-8
  }
}

// Values that a sound schema takes or refuses, it takes or refuses whatever the number of violations asked for.
void check_value(const core::json &schema, const core::json &value) {
  const PlainTextRegex regex;
  const std::vector<core::Violation> all = core::validate(schema, value, regex);
  const std::vector<core::Violation> first = core::validate(schema, value, regex, 1);
  check_reports(all, 100);
  check_reports(first, 1);
  require(all.empty() == first.empty());
  const std::vector<core::Violation> opposite = core::validate({{"not", schema}}, value, regex);
  if (schema.dump().find("\"$ref\"") == std::string::npos) require(opposite.empty() != all.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  const std::size_t line_feed = text.find('\n');
  if (line_feed == std::string_view::npos) return 0;
  try {
    const core::json schema = core::parse_json(text.substr(0, line_feed));
    const std::vector<core::Violation> faults = core::check_schema(schema, PlainTextRegex());
    check_reports(faults, 100);
    const core::json value = core::parse_json(text.substr(line_feed + 1));
    if (faults.empty()) check_value(schema, value);
  } catch (const Error &) {
  }
  return 0;
}
