#include "pg/first_row.hpp"

extern "C" {
#include "executor/tuptable.h"
#include "nodes/params.h"
#include "tcop/dest.h"
#include "utils/datum.h"
}

namespace tasker::pg {

namespace {

struct Receiver {
  DestReceiver base;
  FirstValue *out;
  MemoryContext context;
};

extern "C" void start_rows(DestReceiver *self, int, TupleDesc type) {
  auto *receiver = reinterpret_cast<Receiver *>(self);
  if (!receiver->out->found && type->natts > 0) receiver->out->type = TupleDescAttr(type, 0)->atttypid;
}

extern "C" bool keep_first(TupleTableSlot *slot, DestReceiver *self) {
  auto *receiver = reinterpret_cast<Receiver *>(self);
  FirstValue *out = receiver->out;
  if (out->found) return true;
  out->found = true;
  if (slot->tts_tupleDescriptor->natts == 0) return true;
  bool null = true;
  const Datum value = slot_getattr(slot, 1, &null);
  out->type = TupleDescAttr(slot->tts_tupleDescriptor, 0)->atttypid;
  out->null = null;
  if (!null) {
    MemoryContext old = MemoryContextSwitchTo(receiver->context);
    auto *attribute = TupleDescAttr(slot->tts_tupleDescriptor, 0);
    if (attribute->attlen == -1)
      out->value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
    else
      out->value = datumCopy(value, attribute->attbyval, attribute->attlen);
    MemoryContextSwitchTo(old);
  }
  return true;
}

extern "C" void nothing(DestReceiver *) {}

}  // namespace

FirstValue run_first_value(SPIPlanPtr plan, int nargs, const Oid *types, const Datum *values, const bool *nulls, MemoryContext context) {
  FirstValue out;
  Receiver receiver{};
  receiver.base.receiveSlot = keep_first;
  receiver.base.rStartup = start_rows;
  receiver.base.rShutdown = nothing;
  receiver.base.rDestroy = nothing;
  receiver.base.mydest = DestNone;
  receiver.out = &out;
  receiver.context = context;
  Receiver *destination = &receiver;
  call([=] {
    ParamListInfo params = makeParamList(nargs);
    for (int i = 0; i < nargs; i++) {
      params->params[i].value = values[i];
      params->params[i].isnull = nulls[i];
      params->params[i].ptype = types[i];
      params->params[i].pflags = PARAM_FLAG_CONST;
    }
    SPIExecuteOptions options;
    memset(&options, 0, sizeof options);
    options.params = params;
    options.read_only = false;
    options.dest = &destination->base;
    const int code = SPI_execute_plan_extended(plan, &options);
    if (code == SPI_ERROR_TRANSACTION)
      ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION), errmsg("a step that shares its record's transaction cannot end it"),
                      errhint("Use a procedure with \"atomic\": false for a step that commits by itself.")));
    if (code < 0) elog(ERROR, "could not run the step: %s", SPI_result_code_string(code));
  });
  return out;
}

}  // namespace tasker::pg
