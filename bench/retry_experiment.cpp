// Does predictive retry pay, and from which history? The same outages, in virtual time, under several rules.
//
// A step meets a system that fails in a known manner; each failed attempt is retried as core/retry plans it. After a
// week of learning four days are measured. Chance is drawn by seed, task and attempt, so that every rule meets the same
// arrivals and the same outages; a task's backoff starts between 0.7 and 1.4 s, so that no rule is lucky with the end
// of an outage. bench/retry builds and runs this, and says how to read the table.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "core/retry.hpp"

namespace {

using tasker::core::Pressure;
using tasker::core::SuccessHistory;

constexpr double kHour = 3600, kDay = 24 * kHour, kLearning = 7 * kDay, kEnd = kLearning + 4 * kDay;
constexpr int kHours = 7 * 24, kNumbers = tasker::core::kMaxHistoryAttempt;

// --- chance ---

double unit_of(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

// The same three numbers give the same chance to every rule.
double chance(std::uint64_t seed, std::uint64_t task, std::uint64_t what) {
  std::uint64_t x = seed * 0x9E3779B97F4A7C15ULL ^ task * 0xBF58476D1CE4E5B9ULL ^ what * 0x94D049BB133111EBULL;
  for (int round = 0; round < 3; ++round) x = (x ^ x >> 31) * 0x7FB5D329728EA185ULL;
  return unit_of(x ^ x >> 29);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  double unit() { return unit_of(engine_()); }
  double exponential(double mean) { return -mean * std::log1p(-unit()); }

 private:
  std::mt19937_64 engine_;
};

// --- systems ---

class System {
 public:
  virtual ~System() = default;
  virtual bool works(double time, std::size_t task, int attempt) = 0;
};

class Function final : public System {
 public:
  using Body = std::function<bool(double, std::size_t, int)>;
  explicit Function(Body body) : body_(std::move(body)) {}
  bool works(double time, std::size_t task, int attempt) override { return body_(time, task, attempt); }

 private:
  Body body_;
};

// Up and down by turns, both exponential.
class Outages final : public System {
 public:
  Outages(std::uint64_t seed, double up, double down) {
    Random random(seed);
    for (double time = 0; time < kEnd + kDay;) changes_.push_back(time += random.exponential(changes_.size() % 2 == 0 ? up : down));
  }
  bool works(double time, std::size_t, int) override {
    return (std::upper_bound(changes_.begin(), changes_.end(), time) - changes_.begin()) % 2 == 0;
  }

 private:
  std::vector<double> changes_;
};

class TokenBucket final : public System {
 public:
  TokenBucket(double rate, double size) : rate_(rate), size_(size), tokens_(size) {}
  bool works(double time, std::size_t, int) override {
    tokens_ = std::min(size_, tokens_ + (time - last_) * rate_);
    last_ = time;
    if (tokens_ < 1) return false;
    tokens_ -= 1;
    return true;
  }

 private:
  double rate_, size_, tokens_, last_ = 0;
};

// --- scenarios ---

using MakeSystem = std::function<std::unique_ptr<System>(std::uint64_t)>;
using MakeArrivals = std::function<std::vector<double>(std::uint64_t)>;

struct Scenario {
  const char *name, *category;
  int max_attempts;
  double attempt_seconds;
  MakeSystem system;
  MakeArrivals arrivals;
};

MakeArrivals every(double gap, double from = 0) {
  return [=](std::uint64_t seed) {
    Random random(seed + 1'000);
    std::vector<double> times;
    for (double time = from; (time += random.exponential(gap)) < kEnd;) times.push_back(time);
    return times;
  };
}

MakeArrivals bursts(int size) {
  return [=](std::uint64_t seed) {
    std::vector<double> times = every(60)(seed);
    Random random(seed + 2'000);
    for (double time = 0; (time += random.exponential(kHour / 2)) < kEnd;)
      for (int i = 0; i < size; ++i) times.push_back(time + 2 * random.unit());
    std::sort(times.begin(), times.end());
    return times;
  };
}

MakeSystem outages(double up, double down) {
  return [=](std::uint64_t seed) { return std::make_unique<Outages>(seed, up, down); };
}

MakeSystem bucket(double rate, double size) {
  return [=](std::uint64_t) { return std::make_unique<TokenBucket>(rate, size); };
}

// Each attempt fails by itself with this share; `also` adds what fails besides.
MakeSystem glitches(double share, const MakeSystem &also = {}) {
  return [=](std::uint64_t seed) {
    const std::shared_ptr<System> other = also ? also(seed) : nullptr;
    return std::make_unique<Function>([=](double time, std::size_t task, int attempt) {
      return chance(seed, task, static_cast<std::uint64_t>(attempt)) >= share && (!other || other->works(time, task, attempt));
    });
  };
}

MakeSystem down_when(std::function<bool(std::uint64_t, double, std::size_t)> down) {
  return [=](std::uint64_t seed) {
    return std::make_unique<Function>([=](double time, std::size_t task, int) { return !down(seed, time, task); });
  };
}

// One manner while learning, another while measured.
MakeSystem changing(MakeSystem before, MakeSystem after) {
  return [=](std::uint64_t seed) {
    const std::shared_ptr<System> first = before(seed), second = after(seed);
    return std::make_unique<Function>(
        [=](double time, std::size_t task, int attempt) { return (time < kLearning ? first : second)->works(time, task, attempt); });
  };
}

std::vector<Scenario> scenarios() {
  const auto maintenance = down_when([](std::uint64_t, double time, std::size_t) {
    const double clock = std::fmod(time, kDay);
    return clock >= 2 * kHour && clock < 2.75 * kHour;
  });
  const auto yesterday = down_when([](std::uint64_t, double time, std::size_t) {
    return time >= kLearning - kDay && time < kLearning - kDay + 2 * kHour;
  });
  const auto bad_tasks = down_when([](std::uint64_t seed, double, std::size_t task) { return chance(seed, task, 900) < 0.2; });
  const auto never = down_when([](std::uint64_t, double, std::size_t) { return true; });
  return {
      {"outages of 10 min", "connection", 10, 0.1, outages(6 * kHour, 600), every(20)},
      {"the same, a task every 5 min", "connection", 10, 0.1, outages(6 * kHour, 600), every(300)},
      {"outages of 2 min, busy", "connection", 10, 0.1, outages(3 * kHour, 120), every(2)},
      {"outages of 30 s", "connection", 10, 0.1, outages(kHour, 30), every(20)},
      {"the same, 3 attempts", "connection", 3, 0.1, outages(kHour, 30), every(20)},
      {"the same, no history yet", "connection", 10, 0.1, outages(kHour, 30), every(20, kLearning)},
      {"hiccups of 5 s", "timeout", 10, 2, outages(600, 5), every(20)},
      {"flapping, 20 s up, 20 s down", "timeout", 10, 2, outages(20, 20), every(20)},
      {"maintenance, 45 min a night", "server_error", 10, 0.1, maintenance, every(20)},
      {"rate limit 1/s, bursts of 60", "rate_limit", 10, 0.1, bucket(1, 5), bursts(60)},
      {"rate limit 0.2/s, bursts of 100", "rate_limit", 10, 0.1, bucket(0.2, 20), bursts(100)},
      {"one attempt in 10 fails", "server_error", 10, 0.1, glitches(0.1), every(20)},
      {"four attempts in 10 fail", "unknown", 10, 0.1, glitches(0.4), every(20)},
      {"one in 20, and outages of 5 min", "server_error", 10, 0.1, glitches(0.05, outages(6 * kHour, 300)), every(20)},
      {"outages last week, now one in 10", "server_error", 10, 0.1, changing(outages(2 * kHour, 600), glitches(0.1)), every(20)},
      {"2 h down yesterday, now one in 20", "server_error", 10, 0.1, glitches(0.05, yesterday), every(20)},
      {"one in 10; one task in 5 is bad", "unknown", 10, 0.1, glitches(0.1, bad_tasks), every(20)},
      {"broken for good", "connection", 10, 0.1, never, every(60)},
  };
}

// --- what a step remembers ---

class Memory {
 public:
  void record(double time, int attempt, bool success) {
    const auto hour = static_cast<std::size_t>(time / kHour);
    for (; hour_ < hour; ++hour_) forget(hour_ + 1);
    const auto number = static_cast<std::size_t>(std::min(attempt, kNumbers));
    for (SuccessHistory *history : {&hours_[hour % kHours][number], &week_[number]}) {
      ++history->attempts;
      history->successes += success ? 1 : 0;
    }
    if (attempt == 1) firsts_.record(micros(time), success);
    newest_.push_back({time, success});
    if (newest_.size() > 64) newest_.erase(newest_.begin());
  }

  SuccessHistory week() const {
    SuccessHistory sum;
    for (const SuccessHistory &history : week_) add(sum, history, 1);
    return sum;
  }
  SuccessHistory week(int attempt) const { return week_[static_cast<std::size_t>(std::min(attempt, kNumbers))]; }
  SuccessHistory hour_of_day(double time, int attempt) const {
    SuccessHistory sum;
    for (std::size_t hour = static_cast<std::size_t>(time / kHour) % 24; hour < kHours; hour += 24)
      add(sum, hours_[hour][static_cast<std::size_t>(std::min(attempt, kNumbers))], 1);
    return sum;
  }
  SuccessHistory firsts(double time) const { return firsts_.known(micros(time)); }
  SuccessHistory newest(double time) const {
    SuccessHistory sum;
    for (const auto &[ended, success] : newest_)
      if (ended > time - 600) add(sum, {1, success ? 1 : 0}, 1);
    return sum;
  }

 private:
  using Numbers = std::array<SuccessHistory, kNumbers + 1>;

  static std::int64_t micros(double time) { return static_cast<std::int64_t>((kDay + time) * 1e6); }
  static void add(SuccessHistory &sum, const SuccessHistory &part, int sign) {
    sum.attempts += sign * part.attempts;
    sum.successes += sign * part.successes;
  }
  void forget(std::size_t hour) {
    for (std::size_t number = 0; number <= kNumbers; ++number) add(week_[number], hours_[hour % kHours][number], -1);
    hours_[hour % kHours] = {};
  }

  std::vector<Numbers> hours_ = std::vector<Numbers>(kHours);
  Numbers week_{};
  std::size_t hour_ = 0;
  tasker::core::RecentOutcomes firsts_;
  std::vector<std::pair<double, bool>> newest_;
};

// --- rules ---

using Look = std::function<void(tasker::core::RetryInputs &, const Memory &, double, int)>;

struct Rule {
  const char *name;
  Look look;  // none: the plain backoff
  double stretch = 1;
};

std::vector<Rule> rules() {
  const Look coming = [](auto &inputs, const Memory &memory, double, int failed) { inputs.history = memory.week(failed + 1); };
  const Look coming_and_hour = [=](auto &inputs, const Memory &memory, double time, int failed) {
    coming(inputs, memory, time, failed);
    inputs.hour = memory.hour_of_day(time, failed + 1);
  };
  return {{"plain", {}},
          {"as built",
           [=](auto &inputs, const Memory &memory, double time, int failed) {
             coming_and_hour(inputs, memory, time, failed);
             inputs.recent = memory.firsts(time);
           }},
          {"plain x 1.5", {}, 1.5},
          {"no history", [](auto &, const Memory &, double, int) {}},
          {"week", [](auto &inputs, const Memory &memory, double, int) { inputs.history = memory.week(); }},
          {"newest 64", [](auto &inputs, const Memory &memory, double time, int) { inputs.history = memory.newest(time); }},
          {"next attempt", coming},
          {"next, hour", coming_and_hour}};
}

// --- a run ---

struct Task {
  double arrived = 0, ended = 0;
  int failures = 0;
  bool success = false;
};

struct Attempt {
  double ends;
  std::size_t task;
  int number;
  bool operator>(const Attempt &other) const { return ends != other.ends ? ends > other.ends : task > other.task; }
};

std::vector<Task> run(const Scenario &scenario, const Rule &rule, Pressure pressure, std::uint64_t seed) {
  const std::unique_ptr<System> system = scenario.system(seed);
  std::vector<Task> tasks;
  std::priority_queue<Attempt, std::vector<Attempt>, std::greater<>> attempts;
  for (const double time : scenario.arrivals(seed)) {
    attempts.push({time + scenario.attempt_seconds, tasks.size(), 1});
    tasks.push_back({time});
  }
  Memory memory;
  while (!attempts.empty()) {
    const Attempt attempt = attempts.top();
    attempts.pop();
    Task &task = tasks[attempt.task];
    task.success = system->works(attempt.ends - scenario.attempt_seconds, attempt.task, attempt.number);
    task.ended = attempt.ends;
    memory.record(attempt.ends, attempt.number, task.success);
    if (task.success) continue;
    if (++task.failures >= scenario.max_attempts) continue;
    tasker::core::RetryInputs inputs;
    inputs.backoff.base_seconds = rule.stretch * 0.7 * std::exp2(chance(seed, attempt.task, 901));
    inputs.attempts = attempt.number;
    inputs.category = scenario.category;
    inputs.pressure = pressure;
    inputs.predictive = static_cast<bool>(rule.look);
    inputs.unit_random = chance(seed, attempt.task, static_cast<std::uint64_t>(1'000 + attempt.number));
    if (rule.look) rule.look(inputs, memory, attempt.ends, attempt.number);
    attempts.push({attempt.ends + plan_retry(inputs).delay_seconds + scenario.attempt_seconds, attempt.task, attempt.number + 1});
  }
  std::erase_if(tasks, [](const Task &task) { return task.arrived < kLearning; });
  return tasks;
}

// --- figures ---

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return NAN;
  const auto at = static_cast<std::ptrdiff_t>(std::min(static_cast<double>(values.size() - 1), share * static_cast<double>(values.size())));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

double mean(const std::vector<double> &values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? NAN : sum / static_cast<double>(values.size());
}

// Of one rule, beside the plain backoff. Times are of tasks that met a failure and succeeded under both.
struct Figures {
  double failed = 0, exhausted = 0;  // attempts, and tasks, per task that fails under the plain backoff
  std::vector<double> seconds, plain_seconds, given_up;

  double slower() const { return mean(seconds) / mean(plain_seconds) - 1; }
};

Figures compare(const std::vector<std::vector<Task>> &plain, const std::vector<std::vector<Task>> &ours) {
  Figures figures;
  double troubled = 0;
  for (std::size_t seed = 0; seed < plain.size(); ++seed) {
    for (std::size_t i = 0; i < plain[seed].size(); ++i) {
      const Task &a = plain[seed][i], &b = ours[seed][i];
      troubled += a.failures > 0 ? 1 : 0;
      figures.failed += b.failures;
      figures.exhausted += b.success ? 0 : 1;
      if (!b.success) figures.given_up.push_back(b.ended - b.arrived);
      if (a.failures + b.failures == 0 || !a.success || !b.success) continue;
      figures.seconds.push_back(b.ended - b.arrived);
      figures.plain_seconds.push_back(a.ended - a.arrived);
    }
  }
  figures.failed /= troubled;
  figures.exhausted /= troubled;
  return figures;
}

const char *judged(const Figures &plain, const Figures &ours) {
  const double failed = ours.failed / plain.failed - 1, slower = ours.slower();
  if (failed > 0.005) return "worse";
  if (ours.seconds.empty()) return failed < -0.005 ? "better" : "even";
  if (failed < -0.005) return slower <= 0.03 ? "better" : "traded";
  return slower <= -0.005 ? "faster" : slower <= 0.03 ? "even" : "worse";
}

struct Row {
  Scenario scenario;
  std::vector<Figures> figures;  // one a rule
};

void print(const std::vector<Row> &rows, const std::vector<Rule> &all) {
  std::printf("%-34s %-15s %-21s %-21s %-21s %-17s\n", "", "failed attempts", "   p50 s", "   p95 s", "   mean s", "exhausted %");
  for (const Row &row : rows) {
    const Figures &plain = row.figures[0], &built = row.figures[1];
    std::printf("%-34s %5.2f  %5.2f   ", row.scenario.name, plain.failed, built.failed);
    const double pairs[][2] = {{quantile(built.plain_seconds, 0.5), quantile(built.seconds, 0.5)},
                               {quantile(built.plain_seconds, 0.95), quantile(built.seconds, 0.95)},
                               {mean(built.plain_seconds), mean(built.seconds)}};
    for (const auto &[before, after] : pairs) {
      if (std::isnan(before)) std::printf("       -        -    ");
      else std::printf("%8.2f %8.2f    ", before, after);
    }
    std::printf("%6.1f %6.1f   %s\n", 100 * plain.exhausted, 100 * built.exhausted, judged(plain, built));
  }
  std::printf("\nother histories, as change of failed attempts | of the mean time\n%-34s", "");
  for (std::size_t rule = 1; rule < all.size(); ++rule) std::printf("%17s", all[rule].name);
  for (const Row &row : rows) {
    std::printf("\n%-34s", row.scenario.name);
    for (std::size_t rule = 1; rule < all.size(); ++rule) {
      const Figures &figures = row.figures[rule];
      std::printf("  %+6.1f | ", 100 * (figures.failed / row.figures[0].failed - 1));
      if (figures.seconds.empty()) std::printf("     -");
      else std::printf("%+6.1f", 100 * figures.slower());
    }
  }
  std::printf("\n");
}

void write_number(std::FILE *file, const char *name, double value, const char *end) {
  if (std::isnan(value)) std::fprintf(file, "\"%s\": null%s", name, end);
  else std::fprintf(file, "\"%s\": %.4f%s", name, value, end);
}

bool write_json(const char *path, const std::vector<Row> &rows, const std::vector<Rule> &all, int seeds, Pressure pressure) {
  std::FILE *file = std::fopen(path, "w");
  if (file == nullptr) return false;
  std::fprintf(file, "{\n \"seeds\": %d,\n \"pressure\": \"%s\",\n \"scenarios\": [", seeds, to_string(pressure));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row &row = rows[i];
    std::fprintf(file, "%s\n  {\"name\": \"%s\", \"category\": \"%s\", \"max_attempts\": %d, \"as_built\": \"%s\", \"rules\": {", i > 0 ? "," : "",
                 row.scenario.name, row.scenario.category, row.scenario.max_attempts, judged(row.figures[0], row.figures[1]));
    for (std::size_t rule = 0; rule < all.size(); ++rule) {
      const Figures &figures = row.figures[rule];
      std::fprintf(file, "%s\n   \"%s\": {", rule > 0 ? "," : "", all[rule].name);
      write_number(file, "failed_attempts", figures.failed, ", ");
      write_number(file, "exhausted", figures.exhausted, ", ");
      write_number(file, "p50_seconds", quantile(figures.seconds, 0.5), ", ");
      write_number(file, "p95_seconds", quantile(figures.seconds, 0.95), ", ");
      write_number(file, "mean_seconds", mean(figures.seconds), ", ");
      write_number(file, "plain_mean_seconds", mean(figures.plain_seconds), ", ");
      write_number(file, "given_up_p50_seconds", quantile(figures.given_up, 0.5), "}");
    }
    std::fprintf(file, "}}");
  }
  std::fprintf(file, "\n ]\n}\n");
  return std::fclose(file) == 0;
}

int usage() {
  std::fprintf(stderr, "retry_experiment: usage: retry_experiment SEEDS low|moderate|high|critical RESULTS.json\n");
  return 2;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 4) return usage();
  const int seeds = std::atoi(argv[1]);
  const Pressure known[] = {Pressure::kLow, Pressure::kModerate, Pressure::kHigh, Pressure::kCritical};
  const auto *pressure = std::find_if(std::begin(known), std::end(known), [&](Pressure p) { return std::strcmp(to_string(p), argv[2]) == 0; });
  if (seeds < 1 || pressure == std::end(known)) return usage();

  const std::vector<Rule> all = rules();
  std::vector<Row> rows;
  for (const Scenario &scenario : scenarios()) {
    Row row{scenario, {}};
    std::vector<std::vector<Task>> plain;
    for (const Rule &rule : all) {
      std::vector<std::vector<Task>> runs;
      for (int seed = 1; seed <= seeds; ++seed) runs.push_back(run(scenario, rule, *pressure, static_cast<std::uint64_t>(seed)));
      if (plain.empty()) plain = runs;
      row.figures.push_back(compare(plain, runs));
    }
    rows.push_back(std::move(row));
    std::fprintf(stderr, "retry: %s\n", scenario.name);
  }
  print(rows, all);
  if (write_json(argv[3], rows, all, seeds, *pressure)) return 0;
  std::perror(argv[3]);
  return 1;
}
