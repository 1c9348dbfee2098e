// Pools of connections, each a multi handle of libcurl; calls waiting for their turn; and the way from a socket's event to
// a response.
//
// Every entry into libcurl happens under SignalMask. Its callbacks only note things: they run inside libcurl, which must
// not be entered again from there.
#include "http/client.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <new>
#include <unordered_map>
#include <utility>

#include "http/signal_mask.hpp"
#include "http/transfer.hpp"

namespace tasker::http {
namespace {

// Each has descriptors of its own, keeps connections, and its own copy of the certificates.
constexpr std::size_t kMaxPools = 32;

}  // namespace

class Client::Impl {
 public:
  Impl(SocketWatcher &watcher, Limits limits);
  Impl(const Impl &) = delete;
  Impl &operator=(const Impl &) = delete;
  ~Impl();

  std::uint64_t start(Request request);
  bool cancel(std::uint64_t id);
  void ready(int fd, unsigned events);
  void timed_out();
  std::optional<std::chrono::milliseconds> timeout() const;

  std::vector<Response> finished_;
  std::size_t running() const { return running_.size(); }
  std::size_t waiting() const;
  std::uint64_t dialled() const { return shared_.dialled; }

 private:
  using Clock = Transfer::Clock;

  struct Pool {
    Impl *client = nullptr;
    CURLM *multi = nullptr;
    std::optional<Clock::time_point> due;  // what libcurl's timer waits for
    int running = 0;
    Clock::time_point idle_since;
  };
  struct Running {
    std::unique_ptr<Transfer> transfer;
    Pool *pool;
  };

  static int socket_changed(CURL *easy, curl_socket_t fd, int what, void *pool, void *) noexcept;
  static int timer_changed(CURLM *multi, long milliseconds, void *pool) noexcept;

  Pool *pool_of(const Request &request);  // null: out of memory
  void close(Pool &pool);
  void close_idle();
  void close_oldest();
  bool may_run(const Request &request) const;
  void run(std::unique_ptr<Transfer> transfer);
  void run_waiting();
  std::unique_ptr<Transfer> take_waiting(std::uint64_t id);
  bool add(Transfer &transfer, Pool &pool);
  void collect(Pool &pool);
  void end(std::uint64_t id);
  void act(Pool &pool, curl_socket_t fd, int events);

  SocketWatcher &watcher_;
  Limits limits_;
  Transfer::Shared shared_;
  std::uint64_t last_id_ = 0;
  std::map<std::string, std::unique_ptr<Pool>> pools_;
  std::unordered_map<int, Pool *> sockets_;
  std::unordered_map<std::uint64_t, Running> running_;
  std::unordered_map<std::string, int> running_by_server_;
  std::map<std::string, std::deque<std::unique_ptr<Transfer>>> waiting_;  // by server, none empty
};

Client::Impl::Impl(SocketWatcher &watcher, Limits limits) : watcher_(watcher), limits_(std::move(limits)) {
  const SignalMask mask;
  // The one variable that libcurl would obey whatever its options say: it names a file for the keys of all TLS connections.
  (void)unsetenv("SSLKEYLOGFILE");
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) throw std::bad_alloc();
  for (const std::string &answer : limits_.resolve) {
    curl_slist *longer = curl_slist_append(shared_.resolve, answer.c_str());
    if (longer != nullptr) shared_.resolve = longer;
  }
}

Client::Impl::~Impl() {
  const SignalMask mask;
  for (auto &[id, entry] : running_) {
    (void)curl_multi_remove_handle(entry.pool->multi, entry.transfer->easy());
  }
  running_.clear();
  for (auto &[key, pool] : pools_) close(*pool);
  pools_.clear();
  waiting_.clear();
  curl_slist_free_all(shared_.resolve);
  curl_global_cleanup();
}

// --- pools ---

Client::Impl::Pool *Client::Impl::pool_of(const Request &request) {
  std::string key = request.allow_private ? "private" : "public";
  key += request.http2 ? "\n2\n" : "\n1\n";
  key += request.pool;  // certificate authorities are compared by libcurl
  const auto known = pools_.find(key);
  if (known != pools_.end()) return known->second.get();
  if (pools_.size() >= kMaxPools) close_oldest();
  auto made = std::make_unique<Pool>();
  made->client = this;
  made->multi = curl_multi_init();
  if (made->multi == nullptr) return nullptr;
  (void)curl_multi_setopt(made->multi, CURLMOPT_SOCKETFUNCTION, &Impl::socket_changed);
  (void)curl_multi_setopt(made->multi, CURLMOPT_SOCKETDATA, made.get());
  (void)curl_multi_setopt(made->multi, CURLMOPT_TIMERFUNCTION, &Impl::timer_changed);
  (void)curl_multi_setopt(made->multi, CURLMOPT_TIMERDATA, made.get());
  (void)curl_multi_setopt(made->multi, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_MULTIPLEX));
  // By default libcurl keeps connections by the number of calls under way, so that many are closed whenever many calls end.
  // Twice, as a pool may have two hosts whose calls alternate.
  (void)curl_multi_setopt(made->multi, CURLMOPT_MAXCONNECTS, static_cast<long>(std::max(limits_.max_running, 1)) * 2);
#if LIBCURL_VERSION_NUM >= 0x081400
  (void)curl_multi_setopt(made->multi, CURLMOPT_QUICK_EXIT, 1L);  // as CURLOPT_QUICK_EXIT, for the threads of all its calls
#endif
  return pools_.emplace(std::move(key), std::move(made)).first->second.get();
}

void Client::Impl::close(Pool &pool) {
  (void)curl_multi_cleanup(pool.multi);
  pool.multi = nullptr;
  std::erase_if(sockets_, [&](const auto &socket) { return socket.second == &pool; });
}

// Of those without a call under way; when there is none, there will be a pool more for a while.
void Client::Impl::close_oldest() {
  auto oldest = pools_.end();
  for (auto entry = pools_.begin(); entry != pools_.end(); ++entry) {
    if (entry->second->running == 0 && (oldest == pools_.end() || entry->second->idle_since < oldest->second->idle_since)) oldest = entry;
  }
  if (oldest == pools_.end()) return;
  close(*oldest->second);
  pools_.erase(oldest);
}

void Client::Impl::close_idle() {
  const Clock::time_point now = Clock::now();
  std::erase_if(pools_, [&](const auto &entry) {
    Pool &pool = *entry.second;
    if (pool.running > 0 || now - pool.idle_since < limits_.idle) return false;
    close(pool);
    return true;
  });
}

int Client::Impl::socket_changed(CURL *, curl_socket_t fd, int what, void *data, void *) noexcept {
  auto &pool = *static_cast<Pool *>(data);
  Impl &client = *pool.client;
  try {
    if (what == CURL_POLL_REMOVE) {
      client.sockets_.erase(fd);
      client.watcher_.watch(fd, 0);
      return 0;
    }
    client.sockets_[fd] = &pool;
  } catch (...) {
    return -1;
  }
  client.watcher_.watch(fd, ((what & CURL_POLL_IN) != 0 ? kReadable : 0U) | ((what & CURL_POLL_OUT) != 0 ? kWritable : 0U));
  return 0;
}

int Client::Impl::timer_changed(CURLM *, long milliseconds, void *data) noexcept {
  auto &pool = *static_cast<Pool *>(data);
  pool.due = milliseconds < 0 ? std::nullopt : std::optional(Clock::now() + std::chrono::milliseconds(milliseconds));
  return 0;
}

// --- calls ---

std::uint64_t Client::Impl::start(Request request) {
  const SignalMask mask;
  const bool now = may_run(request);
  auto transfer = std::make_unique<Transfer>(++last_id_, std::move(request), shared_);
  if (now) {
    run(std::move(transfer));
  } else {
    waiting_[transfer->request().server].push_back(std::move(transfer));
  }
  return last_id_;
}

bool Client::Impl::may_run(const Request &request) const {
  if (running_.size() >= static_cast<std::size_t>(std::max(limits_.max_running, 1))) return false;
  if (request.max_concurrency <= 0) return true;
  const auto found = running_by_server_.find(request.server);
  return found == running_by_server_.end() || found->second < request.max_concurrency;
}

void Client::Impl::run(std::unique_ptr<Transfer> transfer) {
  Pool *pool = transfer->begin() ? pool_of(transfer->request()) : nullptr;
  if (pool == nullptr) {
    if (transfer->easy() != nullptr) transfer->fail(Failure::kLocal, "out of memory");
    finished_.push_back(transfer->take_response());
    return;
  }
  const std::uint64_t id = transfer->id();
  Transfer &added = *transfer;
  ++running_by_server_[added.request().server];
  running_.emplace(id, Running{std::move(transfer), pool});
  ++pool->running;
  if (!add(added, *pool)) end(id);
}

bool Client::Impl::add(Transfer &transfer, Pool &pool) {
  if (curl_multi_add_handle(pool.multi, transfer.easy()) == CURLM_OK) return true;
  transfer.fail(Failure::kLocal, "out of memory");
  return false;
}

// The call is over, its handle out of the multi.
void Client::Impl::end(std::uint64_t id) {
  const auto found = running_.find(id);
  Pool &pool = *found->second.pool;
  const auto server = running_by_server_.find(found->second.transfer->request().server);
  if (--server->second == 0) running_by_server_.erase(server);
  --pool.running;
  pool.idle_since = Clock::now();
  finished_.push_back(found->second.transfer->take_response());
  running_.erase(found);
}

// The oldest first, but nobody waits behind a call whose own server is busy.
void Client::Impl::run_waiting() {
  for (;;) {
    auto next = waiting_.end();
    for (auto queue = waiting_.begin(); queue != waiting_.end(); ++queue) {
      if (!may_run(queue->second.front()->request())) continue;
      if (next == waiting_.end() || queue->second.front()->id() < next->second.front()->id()) next = queue;
    }
    if (next == waiting_.end()) return;
    std::unique_ptr<Transfer> transfer = std::move(next->second.front());
    next->second.pop_front();
    if (next->second.empty()) waiting_.erase(next);
    run(std::move(transfer));
  }
}

std::unique_ptr<Transfer> Client::Impl::take_waiting(std::uint64_t id) {
  for (auto queue = waiting_.begin(); queue != waiting_.end(); ++queue) {
    auto &calls = queue->second;
    const auto found = std::find_if(calls.begin(), calls.end(), [id](const auto &transfer) { return transfer->id() == id; });
    if (found == calls.end()) continue;
    std::unique_ptr<Transfer> transfer = std::move(*found);
    calls.erase(found);
    if (calls.empty()) waiting_.erase(queue);
    return transfer;
  }
  return nullptr;
}

std::size_t Client::Impl::waiting() const {
  std::size_t count = 0;
  for (const auto &[server, calls] : waiting_) count += calls.size();
  return count;
}

bool Client::Impl::cancel(std::uint64_t id) {
  const SignalMask mask;
  if (const std::unique_ptr<Transfer> transfer = take_waiting(id)) {
    transfer->cancel();
    finished_.push_back(transfer->take_response());
    return true;
  }
  const auto found = running_.find(id);
  if (found == running_.end()) return false;
  (void)curl_multi_remove_handle(found->second.pool->multi, found->second.transfer->easy());
  found->second.transfer->cancel();
  end(id);
  run_waiting();
  return true;
}

// --- events ---

void Client::Impl::act(Pool &pool, curl_socket_t fd, int events) {
  int still_running = 0;
  (void)curl_multi_socket_action(pool.multi, fd, events, &still_running);
  collect(pool);
}

void Client::Impl::collect(Pool &pool) {
  int left = 0;
  while (const CURLMsg *message = curl_multi_info_read(pool.multi, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    // Not valid any more once the handle is taken out.
    CURL *easy = message->easy_handle;
    const CURLcode code = message->data.result;
    Transfer *transfer = nullptr;
    (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
    (void)curl_multi_remove_handle(pool.multi, easy);
    const std::uint64_t id = transfer->id();
    if (!transfer->hop_ended(code) || !add(*transfer, pool)) end(id);
  }
}

void Client::Impl::ready(int fd, unsigned events) {
  const SignalMask mask;
  const auto found = sockets_.find(fd);
  if (found == sockets_.end()) return;  // closed since the host looked
  const int what =
      ((events & kReadable) != 0 ? CURL_CSELECT_IN : 0) | ((events & kWritable) != 0 ? CURL_CSELECT_OUT : 0) | ((events & kFailed) != 0 ? CURL_CSELECT_ERR : 0);
  act(*found->second, fd, what);
  run_waiting();
}

void Client::Impl::timed_out() {
  const SignalMask mask;
  const Clock::time_point now = Clock::now();
  for (auto &[key, pool] : pools_) {
    if (!pool->due || *pool->due > now) continue;
    pool->due.reset();
    act(*pool, CURL_SOCKET_TIMEOUT, 0);
  }
  run_waiting();
  close_idle();
}

std::optional<std::chrono::milliseconds> Client::Impl::timeout() const {
  std::optional<Clock::time_point> due;
  for (const auto &[key, pool] : pools_) {
    if (pool->due && (!due || *pool->due < *due)) due = pool->due;
    if (pool->running == 0 && (!due || pool->idle_since + limits_.idle < *due)) due = pool->idle_since + limits_.idle;
  }
  if (!due) return std::nullopt;
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(*due - Clock::now()), std::chrono::milliseconds(0));
}

// --- the outside ---

Client::Client(SocketWatcher &watcher, Limits limits) : impl_(std::make_unique<Impl>(watcher, std::move(limits))) {}
Client::~Client() = default;

std::uint64_t Client::start(Request request) { return impl_->start(std::move(request)); }
bool Client::cancel(std::uint64_t id) { return impl_->cancel(id); }
void Client::ready(int fd, unsigned events) { impl_->ready(fd, events); }
void Client::timed_out() { impl_->timed_out(); }
std::optional<std::chrono::milliseconds> Client::timeout() const { return impl_->timeout(); }
std::vector<Response> Client::finished() { return std::exchange(impl_->finished_, {}); }
std::size_t Client::running() const noexcept { return impl_->running(); }
std::size_t Client::waiting() const noexcept { return impl_->waiting(); }
std::uint64_t Client::dialled() const noexcept { return impl_->dialled(); }

}  // namespace tasker::http
