// The border between C++ exceptions and PostgreSQL's longjmp. Neither unwinds the other, so:
//
//   entry([&]{ … })  the whole body of everything Postgres calls. Catches every C++ exception, leaves the
//                    handler, and only then raises it as a Postgres error, all fields intact.
//   call([&]{ … })   around each Postgres function that can raise. A Postgres error becomes pg::Error. The
//                    closure holds plain values only: a longjmp out of it skips destructors.
//
// A pg::Error in flight means that the (sub)transaction is dead: only Subtransaction (pg/xact.hpp), the worker
// loops and entry may stop one.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <type_traits>

#include "core/error.hpp"
#include "pg/pg.hpp"

namespace tasker::pg {

// A complete copy of a Postgres error, in a memory context of its own.
class Error : public std::exception {
 public:
  explicit Error(ErrorData *data, MemoryContext context);  // takes both
  const ErrorData &data() const noexcept { return *data_; }
  std::string sqlstate() const;
  std::string message() const { return data_->message ? data_->message : ""; }
  const char *what() const noexcept override { return data_->message ? data_->message : "PostgreSQL error"; }

 private:
  std::shared_ptr<ErrorData> data_;
};

namespace detail {
[[noreturn]] void throw_current_error(MemoryContext caller_context);
struct Raise;                                    // what entry found, ready to be raised
Raise *capture_exception() noexcept;             // inside a catch block
[[noreturn]] void raise(Raise *);                // outside of any catch block
// Saves and restores the two globals that Postgres's PG_TRY handles.
struct ExceptionFrame {
  sigjmp_buf *stack = PG_exception_stack;
  ErrorContextCallback *context = error_context_stack;
  void restore() const {
    PG_exception_stack = stack;
    error_context_stack = context;
  }
};
}  // namespace detail

template <class F>
auto call(F &&body) -> std::invoke_result_t<F> {
  using Result = std::invoke_result_t<F>;
  static_assert(std::is_trivially_destructible_v<std::remove_reference_t<F>>, "the closure of pg::call holds plain values only");
  static_assert(std::is_void_v<Result> || std::is_trivially_copyable_v<Result>, "the result of pg::call is a plain value");
  const detail::ExceptionFrame frame;
  const MemoryContext context = CurrentMemoryContext;
  sigjmp_buf jump;
  if (sigsetjmp(jump, 0) == 0) {
    PG_exception_stack = &jump;
    if constexpr (std::is_void_v<Result>) {
      body();
      frame.restore();
      return;
    } else {
      Result result = body();
      frame.restore();
      return result;
    }
  }
  frame.restore();
  detail::throw_current_error(context);
}

template <class F>
auto entry(F &&body) -> std::invoke_result_t<F> {
  detail::Raise *failure = nullptr;
  try {
    return body();
  } catch (...) {
    failure = detail::capture_exception();
  }
  detail::raise(failure);
}

inline void check_interrupts() {
  if (INTERRUPTS_PENDING_CONDITION()) call([] { CHECK_FOR_INTERRUPTS(); });
}

enum class Level : int { kDebug = DEBUG1, kLog = LOG, kNotice = NOTICE, kWarning = WARNING };
// Writes to the log or the client; never raises.
void report(Level level, const std::string &message, const std::string &detail = {}, const std::string &hint = {}) noexcept;
// Another form for all that report says, from one process: what it gives is the message, and there is no detail; nothing: as it was.
extern std::string (*report_as)(const std::string &message, const std::string &detail, const std::string &hint);
// The same for a line that has its form already.
void write_log(Level level, const std::string &line) noexcept;

// Ends the process after a log line.
[[noreturn]] void fatal(const std::string &message);
// A warning with a SQLSTATE of its own, to client and log.
void warn(const char *sqlstate, const std::string &message, const std::string &hint) noexcept;

// Text of the exception being handled, for logs. Call inside a catch block.
struct Caught {
  std::string sqlstate, message, detail, hint, context;
};
Caught describe_current_exception() noexcept;

}  // namespace tasker::pg

// A function callable from SQL: exported with its version record, C linkage.
#define TASKER_SQL_FUNCTION(name)                                       \
  extern "C" {                                                          \
  TASKER_EXPORT Datum name(PG_FUNCTION_ARGS);                           \
  TASKER_EXPORT const Pg_finfo_record *pg_finfo_##name(void);           \
  const Pg_finfo_record *pg_finfo_##name(void) {                        \
    static const Pg_finfo_record my_finfo = {1};                        \
    return &my_finfo;                                                   \
  }                                                                     \
  }                                                                     \
  Datum name([[maybe_unused]] FunctionCallInfo fcinfo)
