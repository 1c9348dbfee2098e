#include <cstring>
#include <new>

#include "pg/bridge.hpp"

namespace tasker::pg {

namespace {

void set_text(char **field, const std::string &value, MemoryContext context) {
  if (!value.empty()) *field = MemoryContextStrdup(context, value.c_str());
}

int encode_sqlstate(const std::string &text) {
  if (text.size() != 5) return ERRCODE_INTERNAL_ERROR;
  return MAKE_SQLSTATE(text[0], text[1], text[2], text[3], text[4]);
}

}  // namespace

Error::Error(ErrorData *data, MemoryContext context)
    : data_(data, [context](ErrorData *) { MemoryContextDelete(context); }) {}

std::string Error::sqlstate() const { return unpack_sql_state(data_->sqlerrcode); }

namespace detail {

void throw_current_error(MemoryContext caller_context) {
  // A context of its own: the one that failed may be deleted by a scope the exception unwinds.
  MemoryContextSwitchTo(TopMemoryContext);
  MemoryContext own = AllocSetContextCreate(TopMemoryContext, "tasker error", ALLOCSET_SMALL_SIZES);
  MemoryContextSwitchTo(own);
  ErrorData *data = CopyErrorData();
  FlushErrorState();
  MemoryContextSwitchTo(caller_context);
  throw Error(data, own);
}

struct Raise {
  ErrorData *data;  // in CurrentMemoryContext of the raise: copied there by ReThrowError
};

static Raise *make_raise(const Caught &caught) {
  MemoryContext context = TopTransactionContext ? TopTransactionContext : TopMemoryContext;
  auto *raise = static_cast<Raise *>(MemoryContextAllocZero(context, sizeof(Raise)));
  raise->data = static_cast<ErrorData *>(MemoryContextAllocZero(context, sizeof(ErrorData)));
  ErrorData *data = raise->data;
  data->elevel = ERROR;
  data->sqlerrcode = encode_sqlstate(caught.sqlstate);
  data->assoc_context = context;
  set_text(&data->message, caught.message, context);
  set_text(&data->detail, caught.detail, context);
  set_text(&data->hint, caught.hint, context);
  set_text(&data->context, caught.context, context);
  return raise;
}

Raise *capture_exception() noexcept {
  try {
    throw;
  } catch (const Error &error) {
    // The copy outlives the exception object, which dies with the catch block.
    MemoryContext old = MemoryContextSwitchTo(TopTransactionContext ? TopTransactionContext : TopMemoryContext);
    auto *raise = static_cast<Raise *>(palloc0(sizeof(Raise)));
    auto *copy = static_cast<ErrorData *>(palloc(sizeof(ErrorData)));
    std::memcpy(copy, &error.data(), sizeof(ErrorData));
    auto dup = [](char **field) {
      if (*field) *field = pstrdup(*field);
    };
    dup(&copy->message);
    dup(&copy->detail);
    dup(&copy->detail_log);
    dup(&copy->hint);
    dup(&copy->context);
    dup(&copy->backtrace);
    dup(&copy->schema_name);
    dup(&copy->table_name);
    dup(&copy->column_name);
    dup(&copy->datatype_name);
    dup(&copy->constraint_name);
    dup(&copy->internalquery);
    raise->data = copy;
    MemoryContextSwitchTo(old);
    return raise;
  } catch (...) {
    return make_raise(describe_current_exception());
  }
}

void raise(Raise *failure) {
  ErrorData *data = failure->data;
  if (data->filename != nullptr) ReThrowError(data);  // came from Postgres: whole, with its source line
  // Ours: through ereport, so that the error gets a place in the log like any other.
  ereport(ERROR, (errcode(data->sqlerrcode), errmsg_internal("%s", data->message ? data->message : "unknown error"),
                  data->detail ? errdetail_internal("%s", data->detail) : 0,
                  data->hint ? errhint("%s", data->hint) : 0,
                  data->context ? errcontext("%s", data->context) : 0));
  pg_unreachable();
}

}  // namespace detail

namespace {

Caught describe() {
  Caught out;
  auto text = [](const char *value) { return std::string(value ? value : ""); };
  try {
    throw;
  } catch (const Error &error) {
    const ErrorData &data = error.data();
    out = {error.sqlstate(), text(data.message), text(data.detail), text(data.hint), text(data.context)};
  } catch (const tasker::Error &error) {
    out = {error.sqlstate(), error.message(), error.detail(), error.hint(), {}};
  } catch (const std::bad_alloc &) {
    out = {"53200", "out of memory", {}, {}, {}};
  } catch (const std::exception &error) {
    out = {sqlstate::kInternal, text(error.what()), {}, {}, {}};
  } catch (...) {
    out = {sqlstate::kInternal, "unknown exception", {}, {}, {}};
  }
  return out;
}

}  // namespace

Caught describe_current_exception() noexcept {
  try {
    return describe();
  } catch (...) {
    // No memory for the words of the error; these are short enough to need none.
    return {"53200", "out of memory", {}, {}, {}};
  }
}

std::string (*report_as)(const std::string &, const std::string &, const std::string &) = nullptr;

void write_log(Level level, const std::string &line) noexcept {
  try {
    const char *m = line.c_str();
    const int elevel = static_cast<int>(level);
    call([=] { ereport(elevel, (errmsg_internal("%s", m), errhidestmt(true), errhidecontext(true))); });
  } catch (...) {
    // As in report.
  }
}

void report(Level level, const std::string &message, const std::string &detail, const std::string &hint) noexcept {
  try {
    if (report_as != nullptr) {
      if (const std::string line = report_as(message, detail, hint); !line.empty()) return write_log(level, line);
    }
    const char *m = message.c_str(), *d = detail.empty() ? nullptr : detail.c_str(), *h = hint.empty() ? nullptr : hint.c_str();
    const int elevel = static_cast<int>(level);
    call([=] {
      ereport(elevel, (errmsg_internal("%s", m), d ? errdetail_internal("%s", d) : 0, h ? errhint("%s", h) : 0));
    });
  } catch (...) {
    // A report that can't be written must not become the failure it reports.
  }
}

void fatal(const std::string &message) {
  const char *m = message.c_str();
  call([=] { ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg_internal("%s", m))); });
  pg_unreachable();
}

void warn(const char *sqlstate, const std::string &message, const std::string &hint) noexcept {
  try {
    const char *m = message.c_str(), *h = hint.c_str();
    const int code = encode_sqlstate(sqlstate);
    call([=] { ereport(WARNING, (errcode(code), errmsg_internal("%s", m), errhint("%s", h))); });
  } catch (...) {
    // As in report().
  }
}

}  // namespace tasker::pg
