// The module: what the server meets when it loads tasker. The table of contents; nothing else.
#include "engine/batch.hpp"
#include "pg/bridge.hpp"
#include "store/definitions.hpp"
#include "store/hints.hpp"
#include "store/settings.hpp"
#include "store/shared_state.hpp"
#include "store/trace_rooms.hpp"
#include "worker/launcher.hpp"
#include "worker/utility_hook.hpp"

extern "C" {
TASKER_EXPORT const Pg_magic_struct *Pg_magic_func(void);
TASKER_EXPORT void _PG_init(void);
#ifdef PG_MODULE_MAGIC_EXT
PG_MODULE_MAGIC_EXT(.name = "tasker", .version = TASKER_VERSION);
#else
PG_MODULE_MAGIC;
#endif
}

void _PG_init(void) {
  using namespace tasker;
  const bool preloading = process_shared_preload_libraries_in_progress;
  store::define_settings(preloading);
  store::register_cache_invalidation();
  store::register_hint_callback();
  store::register_trace_callbacks();
  worker::install_utility_hook();
  if (!preloading) return;
  store::install_shared_memory_hooks();
  if (!IsBinaryUpgrade) worker::register_launcher();
}
