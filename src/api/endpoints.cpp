// The validator of the wrapper tasker_http. Its arguments hold secrets: no message repeats a value.
#include <algorithm>

#include "engine/endpoints.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"

extern "C" {
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
}

using namespace tasker;

namespace {

constexpr const char *kInvalidOptionName = "HV00D";

bool is_among(std::span<const std::string_view> names, const std::string &name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// In a list of faults a hint stands in brackets; here it is a sentence.
std::string sentence(std::string hint) {
  if (hint.empty()) return hint;
  hint[0] = static_cast<char>(pg_toupper(static_cast<unsigned char>(hint[0])));
  return hint.ends_with('.') || hint.ends_with('?') ? hint : hint + ".";
}

// The first is the error; the others are told with it.
[[noreturn]] void refuse(const std::vector<core::Fault> &faults, const char *sqlstate) {
  std::string others;
  for (std::size_t i = 1; i < faults.size(); i++) others += (others.empty() ? "" : "\n") + faults[i].problem;
  throw tasker::Error(sqlstate, faults.front().problem, others, sentence(faults.front().hint));
}

void check(const std::vector<core::Fault> &faults, std::span<const std::string_view> names) {
  if (!faults.empty()) refuse(faults, is_among(names, faults.front().pointer) ? sqlstate::kInvalidParameter : kInvalidOptionName);
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_http_validator) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const engine::Options options(args.datum(0, "options"));
    switch (DatumGetObjectId(args.datum(1, "catalog"))) {
      case ForeignServerRelationId: {
        check(http::check_server_options(options.list(), true), http::server_option_names());
        // Whatever is set and needs a superuser, also when somebody else changes another option of the same server.
        const std::vector<core::Fault> denied = http::check_server_options(options.list(), pg::is_superuser(GetUserId()));
        if (!denied.empty()) refuse(denied, sqlstate::kInsufficientPrivilege);
        break;
      }
      case UserMappingRelationId:
        check(http::check_mapping_options(options.list()), http::mapping_option_names());
        break;
      case ForeignDataWrapperRelationId:
        if (!options.list().empty()) throw tasker::Error(kInvalidOptionName, "the wrapper tasker_http has no options", {}, "Set them on its servers and user mappings.");
        break;
      default:
        throw tasker::Error(sqlstate::kFeatureNotSupported, "tasker_http has no foreign tables", {}, "Its servers are called by workflow steps of type http.");
    }
    return Datum(0);
  });
}
