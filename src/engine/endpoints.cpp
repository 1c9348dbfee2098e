#include "engine/endpoints.hpp"

#include <string.h>

#include "core/object_reader.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "access/reloptions.h"
#include "catalog/pg_user_mapping.h"
#include "foreign/foreign.h"
}

namespace tasker::engine {

namespace {

inline constexpr const char *kUndefinedObject = "42704";
inline constexpr const char *kWrapper = "tasker_http";

struct Server {
  Oid id = InvalidOid;
  Datum options = 0;  // of the syscache entry's copy in the current memory context
};

// InvalidOid: no server of that name, or one of another wrapper (then `foreign`).
Server find_server(const std::string &name, bool *foreign) {
  const char *text = name.c_str();
  return pg::call([=]() -> Server {
    Server out;
    *foreign = false;
    const Oid wrapper = get_foreign_data_wrapper_oid(kWrapper, true);
    HeapTuple tuple = SearchSysCache1(FOREIGNSERVERNAME, CStringGetDatum(text));
    if (!HeapTupleIsValid(tuple)) return out;
    const auto *row = reinterpret_cast<Form_pg_foreign_server>(GETSTRUCT(tuple));
    *foreign = row->srvfdw != wrapper;
    if (!*foreign) {
      out.id = row->oid;
      bool null;
      const Datum options = SysCacheGetAttr(FOREIGNSERVERNAME, tuple, Anum_pg_foreign_server_srvoptions, &null);
      if (!null) out.options = PointerGetDatum(PG_DETOAST_DATUM_COPY(options));
    }
    ReleaseSysCache(tuple);
    return out;
  });
}

// Whole copies of a mapping's options; none for a mapping without options, or when there is none.
Datum mapping_options(Oid server, Oid user) {
  return pg::call([=]() -> Datum {
    HeapTuple tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(user), ObjectIdGetDatum(server));
    if (!HeapTupleIsValid(tuple)) tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server));
    if (!HeapTupleIsValid(tuple)) return Datum(0);
    bool null;
    const Datum options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &null);
    const Datum copy = null ? Datum(0) : PointerGetDatum(PG_DETOAST_DATUM_COPY(options));
    ReleaseSysCache(tuple);
    return copy;
  });
}

void wipe(Datum array) { explicit_bzero(DatumGetPointer(array), VARSIZE(DatumGetPointer(array))); }

std::string missing(const std::string &name) { return "server " + core::in_quotes(name) + " does not exist"; }
std::string denied(const std::string &name, Oid role) {
  return "role " + core::in_quotes(pg::role_name(role)) + " may not use server " + core::in_quotes(name);
}

}  // namespace

Options::Options(Datum array) {
  if (array == Datum(0)) return;
  List *const list = pg::call([=] { return untransformRelOptions(array); });
  ListCell *cell;
  foreach (cell, list) {
    const auto *element = lfirst_node(DefElem, cell);
    char *value = element->arg != nullptr ? strVal(element->arg) : nullptr;
    options_.push_back({element->defname, value != nullptr ? value : ""});
    if (value != nullptr) explicit_bzero(value, strlen(value));
  }
}

Options::~Options() {
  for (http::Option &option : options_) explicit_bzero(option.value.data(), option.value.capacity());
}

EndpointRead read_endpoint(const std::string &server, Oid owner) {
  pg::OwnedContext memory(CurrentMemoryContext, "tasker endpoint");
  const pg::ContextScope scope(memory.get());
  if (const ServerProblem found = find_server_problem(server, owner); !found.problem.empty())
    throw tasker::Error(found.denied ? sqlstate::kInsufficientPrivilege : kUndefinedObject, found.problem, {}, found.hint);
  bool foreign = false;
  const Server row = find_server(server, &foreign);
  EndpointRead out;
  out.server = row.id;
  out.endpoint = http::endpoint_of(Options(row.options).list());
  const Datum mapping = mapping_options(row.id, owner);
  if (mapping == Datum(0)) return out;
  struct Wiper {
    Datum array;
    ~Wiper() { wipe(array); }
  } const wiper{mapping};
  const Options options(mapping);
  out.credentials = http::credentials_of(options.list());
  return out;
}

EndpointLimits read_limits(const std::string &server) {
  pg::OwnedContext memory(CurrentMemoryContext, "tasker endpoint");
  const pg::ContextScope scope(memory.get());
  bool foreign = false;
  const Server row = find_server(server, &foreign);
  if (!OidIsValid(row.id)) return {};
  try {
    const http::Endpoint endpoint = http::endpoint_of(Options(row.options).list());
    return {endpoint.max_concurrency, endpoint.rate_per_second};
  } catch (const tasker::Error &) {
    return {};
  }
}

ServerProblem find_server_problem(const std::string &server, Oid role) {
  bool foreign = false;
  const Server row = find_server(server, &foreign);
  if (foreign) return {"server " + core::in_quotes(server) + " is not one of the wrapper tasker_http", "An endpoint is made by CREATE SERVER … FOREIGN DATA WRAPPER tasker_http.", false};
  if (!OidIsValid(row.id)) return {missing(server), "An endpoint is made by CREATE SERVER … FOREIGN DATA WRAPPER tasker_http OPTIONS (url '…').", false};
  const Oid id = row.id;
  if (pg::call([=] { return pg::server_allows_usage(id, role); })) return {};
  const char *name = server.c_str();
  const std::string quoted = pg::call([=] { return quote_identifier(name); });
  return {denied(server, role), "Its owner gives the right: GRANT USAGE ON FOREIGN SERVER " + quoted + " TO …", true};
}

}  // namespace tasker::engine
