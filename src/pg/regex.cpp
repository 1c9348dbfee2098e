#include "pg/regex.hpp"

#include "pg/spi.hpp"

extern "C" {
#include "catalog/pg_collation.h"
#include "regex/regex.h"
}

namespace tasker::pg {

bool Regex::matches(std::string_view pattern, std::string_view subject) const {
  const Datum compiled = text_datum(pattern);
  char *data = const_cast<char *>(subject.data());
  const int length = static_cast<int>(subject.size());
  return call([=] { return RE_compile_and_execute(DatumGetTextPP(compiled), data, length, REG_ADVANCED, DEFAULT_COLLATION_OID, 0, nullptr); });
}

std::string Regex::problem(std::string_view pattern) const {
  // A pattern that does not compile raises in the middle of the caller's transaction; only the compile step
  // itself is run here, and its error is a value, not a dead transaction.
  const int length = static_cast<int>(pattern.size());
  const char *data = pattern.data();
  struct Outcome {
    int code;
    char text[200];
  };
  const Outcome outcome = call([=] {
    Outcome out{};
    auto *wide = static_cast<pg_wchar *>(palloc((static_cast<Size>(length) + 1) * sizeof(pg_wchar)));
    const int wide_length = pg_mb2wchar_with_len(data, wide, length);
    regex_t regex;
    out.code = pg_regcomp(&regex, wide, static_cast<Size>(wide_length), REG_ADVANCED, DEFAULT_COLLATION_OID);
    if (out.code == REG_OKAY) pg_regfree(&regex);
    else pg_regerror(out.code, &regex, out.text, sizeof out.text);
    pfree(wide);
    return out;
  });
  return outcome.code == REG_OKAY ? std::string() : std::string(outcome.text);
}

}  // namespace tasker::pg
