#include "engine/handlers.hpp"

#include "pg/first_row.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"
#include "store/settings.hpp"

extern "C" {
#include "access/tupmacs.h"
#include "commands/defrem.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "parser/parser.h"
#include "utils/typcache.h"
}

namespace tasker::engine {

namespace {

inline constexpr std::size_t kPlanLimit = 1024;

struct HandlerPlan {
  SPIPlanPtr plan = nullptr;
  int nargs = 0;
  Oid types[3] = {};
};
using Plans = std::unordered_map<std::uint64_t, HandlerPlan>;
constinit Plans *plans = nullptr;

std::uint64_t plan_key(const store::CompiledDefinition &definition, const store::CompiledStep &step) {
  return static_cast<std::uint64_t>(definition.named_task_id) << 32 | static_cast<std::uint32_t>(step.step_no);
}

// The rows of pg_proc behind a qualified name, without regard to rights: those are checked when it is called.
struct Candidate {
  Oid oid;
  Oid result;
  bool set;
  char kind;
};

List *qualified_name(const std::string &name) {
  const Datum value = pg::text_datum(name);
  return pg::call([=] { return textToQualifiedNameList(DatumGetTextPP(value)); });
}

// Not LookupFuncName: that passes over procedures.
Candidate look_up(List *names, int nargs, const Oid *types) {
  return pg::call([=] {
    Candidate found{InvalidOid, InvalidOid, false, 0};
    for (FuncCandidateList c = FuncnameGetCandidates(names, nargs, NIL, false, false, false, true); c != nullptr; c = c->next)
      if (memcmp(c->args, types, sizeof(Oid) * static_cast<std::size_t>(nargs)) == 0) found.oid = c->oid;
    if (!OidIsValid(found.oid)) return found;
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(found.oid));
    if (HeapTupleIsValid(tuple)) {
      auto *proc = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
      found.result = proc->prorettype;
      found.set = proc->proretset;
      found.kind = proc->prokind;
      ReleaseSysCache(tuple);
    }
    return found;
  });
}

std::string quoted_name(Oid function) {
  const char *text = pg::call([=]() -> const char * {
    return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)), get_func_name(function));
  });
  return text;
}

ResolvedHandler resolve(const std::string &name, bool procedure) {
  ResolvedHandler out;
  List *names = qualified_name(name);
  const Oid pair[2] = {JSONBOID, JSONBOID};
  const Oid composite[1] = {store::step_call_type()};
  const char wanted = procedure ? PROKIND_PROCEDURE : PROKIND_FUNCTION;
  Candidate found = look_up(names, 2, pair);
  out.signature = Signature::kContextResults;
  if (!OidIsValid(found.oid) || found.kind != wanted) {
    found = look_up(names, 1, composite);
    out.signature = Signature::kStepCall;
  }
  const std::string what = procedure ? "procedure " : "function ";
  if (!OidIsValid(found.oid) || found.kind != wanted) {
    out.signature = Signature::kNone;
    out.problem = what + name + "(jsonb, jsonb) or " + name + "(tasker.step_call) does not exist";
    out.hint = "Create it before the definition; the two arguments are the task's context and its parents' results.";
    return out;
  }
  out.oid = found.oid;
  out.call_text = quoted_name(found.oid);
  if (!procedure && (found.set || (found.result != JSONBOID && found.result != VOIDOID))) {
    out.problem = what + name + " must return jsonb or void";
    out.hint = "Wrap it in a function that returns one jsonb value.";
  }
  return out;
}

HandlerPlan prepare(const HandlerCall &call) {
  HandlerPlan out;
  std::string text;
  if (!call.step->function.empty()) {
    const ResolvedHandler handler = resolve_function(call.step->function);
    if (!handler.problem.empty()) throw tasker::Error("42883", handler.problem, {}, handler.hint);
    if (handler.signature == Signature::kStepCall) {
      out.nargs = 1;
      out.types[0] = store::step_call_type();
      text = "SELECT " + handler.call_text + "($1)";
    } else {
      out.nargs = 2;
      out.types[0] = out.types[1] = JSONBOID;
      text = "SELECT " + handler.call_text + "($1, $2)";
    }
  } else {
    out.nargs = 3;
    out.types[0] = out.types[1] = out.types[2] = JSONBOID;
    text = call.step->query;
  }
  out.plan = pg::prepare_plan(text.c_str(), out.nargs, out.types, true);
  return out;
}

HandlerPlan plan_for(const HandlerCall &call) {
  if (plans == nullptr) plans = new Plans;  // lives as long as the process
  const std::uint64_t key = plan_key(*call.definition, *call.step);
  if (auto found = plans->find(key); found != plans->end()) return found->second;
  if (plans->size() >= kPlanLimit) {
    for (auto &[_, plan] : *plans) pg::free_plan(plan.plan);
    plans->clear();
  }
  const HandlerPlan plan = prepare(call);
  plans->emplace(key, plan);
  return plan;
}

// The composite tasker.step_call; its columns are in the order of SPEC and of api/handlers.sql.
Datum step_call_datum(const HandlerCall &call, Datum config) {
  Datum values[8];
  bool nulls[8] = {};
  values[0] = Int64GetDatum(call.task_id);
  values[1] = pg::text_datum(call.step->name);
  values[2] = Int32GetDatum(call.attempt);
  values[3] = call.context;
  values[4] = call.results;
  values[5] = config;
  values[6] = call.correlation_id ? pg::text_datum(*call.correlation_id) : Datum(0);
  nulls[6] = call.correlation_id == nullptr;
  values[7] = pg::text_datum(call.idempotency_key);
  const Oid type = store::step_call_type();
  Datum *v = values;
  bool *n = nulls;
  return pg::call([=] {
    TupleDesc descriptor = lookup_rowtype_tupdesc_copy(type, -1);
    return HeapTupleGetDatum(heap_form_tuple(descriptor, v, n));
  });
}

Datum to_jsonb(const pg::FirstValue &value, MemoryContext memory) {
  if (!value.found || value.null || value.type == VOIDOID) return Datum(0);
  if (value.type == JSONBOID) return value.value;
  const Oid type = value.type;
  SPIPlanPtr plan = pg::prepare_plan("SELECT pg_catalog.to_jsonb($1)", 1, &type, false);
  const bool null = false;
  const Datum in = value.value;
  return pg::run_first_value(plan, 1, &type, &in, &null, memory).value;
}

}  // namespace

ResolvedHandler resolve_function(const std::string &name) { return resolve(name, false); }
ResolvedHandler resolve_procedure(const std::string &name) { return resolve(name, true); }

void check_result_size(const std::string &step, Datum result) {
  if (result == Datum(0)) return;
  const std::size_t limit = static_cast<std::size_t>(store::settings.max_result_size_kb) * 1024;
  const std::size_t size = VARSIZE_ANY(DatumGetPointer(result));
  if (size > limit)
    throw tasker::Error(sqlstate::kProgramLimit, "the result of step \"" + step + "\" is " + std::to_string(size) + " bytes, the limit is " + std::to_string(limit), {},
                        "Write large results to a table and return a key, or raise tasker.max_result_size.");
}

Datum call_handler(const HandlerCall &call, MemoryContext memory) {
  if (call.step->type == store::HandlerType::kNoop) return Datum(0);
  pg::Spi spi;
  const HandlerPlan plan = plan_for(call);
  Datum values[3] = {};
  const bool nulls[3] = {};
  const Datum config = plan.nargs == 2 ? Datum(0) : pg::jsonb_datum(call.step->handler);
  if (plan.nargs == 1) {
    values[0] = step_call_datum(call, config);
  } else {
    values[0] = call.context;
    values[1] = call.results;
    values[2] = config;
  }
  const Datum result = to_jsonb(pg::run_first_value(plan.plan, plan.nargs, plan.types, values, nulls, memory), memory);
  check_result_size(call.step->name, result);
  return result;
}

void call_procedure(const HandlerCall &call) {
  const ResolvedHandler handler = resolve_procedure(call.step->procedure);
  if (!handler.problem.empty()) throw tasker::Error("42883", handler.problem, {}, handler.hint);
  const bool composite = handler.signature == Signature::kStepCall;
  const Datum first = composite ? step_call_datum(call, pg::jsonb_datum(call.step->handler)) : call.context;
  const Datum second = call.results;
  const Oid type = composite ? store::step_call_type() : static_cast<Oid>(JSONBOID);
  const Oid procedure = handler.oid;
  // As a top-level CALL would: a portal of its own, which outlives the commits inside because it is active.
  struct Place {
    Portal portal = nullptr, outer = ActivePortal;
    MemoryContext outer_context = PortalContext;
    // After an error the abort of the transaction drops the portal, unless that is active.
    ~Place() {
      if (portal != nullptr) portal->status = PORTAL_FAILED, portal->cleanup = nullptr;
      ActivePortal = outer;
      PortalContext = outer_context;
    }
  } place;
  Place *p = &place;
  pg::call([=] {
    Portal portal = p->portal = CreateNewPortal();
    MemoryContext before = MemoryContextSwitchTo(portal->portalContext);  // the transaction's own ends with it
    const bool transient = before == TopTransactionContext;
    List *args = list_make1(makeConst(type, -1, InvalidOid, -1, first, false, false));
    if (!composite) args = lappend(args, makeConst(JSONBOID, -1, InvalidOid, -1, second, false, false));
    FuncExpr *expression = makeFuncExpr(procedure, VOIDOID, args, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
    CallStmt *statement = makeNode(CallStmt);
    statement->funcexpr = expression;
    portal->visible = false;
    portal->resowner = CurrentResourceOwner;
    portal->status = PORTAL_ACTIVE;
    ActivePortal = portal;
    PortalContext = portal->portalContext;
    EnsurePortalSnapshotExists();
    ParamListInfo params = makeParamList(0);
    ExecuteCallStmt(statement, params, false, CreateDestReceiver(DestNone));
    if (portal->portalSnapshot != nullptr && ActiveSnapshotSet()) {
      portal->portalSnapshot = nullptr;
      PopActiveSnapshot();
    }
    MemoryContextSwitchTo(transient ? TopTransactionContext : before);
    ActivePortal = p->outer;
    portal->status = PORTAL_DONE;
    portal->resowner = nullptr;
    p->portal = nullptr;
    PortalDrop(portal, false);
  });
}

void clean_session() {
  // run_task works in somebody's session: what is prepared, locked or open there is his.
  if (MyBackendType != B_BG_WORKER) return;
  pg::call([] {
    DropAllPreparedStatements();
    PortalHashTableDeleteAll();
    ResetSequenceCaches();
    LockReleaseSession(USER_LOCKMETHOD);
  });
}

void forget_plan(const store::CompiledDefinition &definition, const store::CompiledStep &step) {
  if (plans == nullptr) return;
  const auto found = plans->find(plan_key(definition, step));
  if (found == plans->end()) return;
  pg::free_plan(found->second.plan);
  plans->erase(found);
}

}  // namespace tasker::engine
