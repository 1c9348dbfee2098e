// Does the adaptive time to live pay? The same accesses, in virtual time, under several rules.
//
// Who asks what and when is drawn by seed once and replayed under every rule; so is what each answer takes to work out. One
// works an answer out and the others wait for it, and answers end with their hour, as in store/cache. Only the time to live
// differs: none (no cache), fixed ones, and core/cache_policy as built. Times that last longer answer more from the cache and are
// older, so a rule of fixed times is added whose answers are on average as old as those of the adaptive one: that is the fair
// comparison. bench/cache builds and runs this, and says how to read the table.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/cache_policy.hpp"

namespace {

using tasker::core::CacheUse;

constexpr double kHour = 3600, kDay = 24 * kHour, kEnd = 5 * kDay;
constexpr double kFromCache = 0.0005;  // seconds; bench/run measures it

// --- chance ---

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  double unit() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }
  double exponential(double mean) { return -mean * std::log1p(-unit()); }
  double log_normal(double median, double sigma) { return median * std::exp(sigma * std::sqrt(-2 * std::log1p(-unit())) * std::cos(2 * 3.14159265358979 * unit())); }

 private:
  std::mt19937_64 engine_;
};

// Ranks from 0, the first ones far more often.
class Zipf {
 public:
  Zipf(int count, double exponent) {
    double sum = 0;
    for (int i = 1; i <= count; ++i) shares_.push_back(sum += std::pow(i, -exponent));
  }
  int draw(Random &random) const { return static_cast<int>(std::lower_bound(shares_.begin(), shares_.end(), random.unit() * shares_.back()) - shares_.begin()); }

 private:
  std::vector<double> shares_;
};

// --- accesses ---

struct Question {
  double base_ttl = 90;
  double cost = 0.1;   // median seconds to work it out
  bool hourly = true;  // its answer is of the hour
};

struct Access {
  double time;
  int question;
  double cost;  // what it takes at this moment
};

struct Pattern {
  std::vector<Question> questions;
  std::vector<Access> accesses;
};

class Writer {
 public:
  Writer(Pattern &pattern, std::uint64_t seed) : pattern_(pattern), random_(seed) {}
  Random &random() { return random_; }
  int question(double base_ttl, double cost, bool hourly = true) {
    pattern_.questions.push_back({base_ttl, cost, hourly});
    return static_cast<int>(pattern_.questions.size()) - 1;
  }
  void ask(double time, int question) {
    const double median = pattern_.questions[static_cast<std::size_t>(question)].cost;
    pattern_.accesses.push_back({time, question, random_.log_normal(median, 0.3)});
  }
  // A page left open: asks the same at every interval, from then to then.
  void poll(double from, double to, double interval, int question) {
    for (double t = from + random_.unit() * interval; t < to; t += interval * (0.95 + 0.1 * random_.unit())) ask(t, question);
  }
  // Calls at random, so many an hour.
  void browse(double from, double to, double an_hour, const std::function<int()> &which) {
    for (double t = from + random_.exponential(kHour / an_hour); t < to; t += random_.exponential(kHour / an_hour)) ask(t, which());
  }

 private:
  Pattern &pattern_;
  Random random_;
};

void office_hours(const std::function<void(double from, double to)> &day) {
  for (double begin = 0; begin < kEnd; begin += kDay) day(begin + 8 * kHour, begin + 18 * kHour);
}

// Pages that refresh themselves: a few questions, many viewers.
void dashboards(Writer &w) {
  const std::array<int, 4> pages = {w.question(90, 0.4), w.question(90, 0.15), w.question(120, 0.6), w.question(120, 0.5)};
  office_hours([&](double from, double to) {
    for (int viewer = 0; viewer < 8; ++viewer)
      for (const int page : pages) w.poll(from + w.random().unit() * kHour, to - w.random().unit() * kHour, 30, page);
  });
}

// A monitoring system asks for metrics every minute, day and night.
void monitoring(Writer &w) {
  const int metrics = w.question(90, 0.15);
  w.poll(0, kEnd, 60, metrics);
}

// People look at this definition and that; few are looked at often.
void browsing(Writer &w) {
  std::vector<int> definitions;
  for (int i = 0; i < 150; ++i) definitions.push_back(w.question(i % 2 == 0 ? 90 : 120, w.random().log_normal(0.25, 1)));
  const Zipf popularity(150, 1.1);
  office_hours([&](double from, double to) { w.browse(from, to, 240, [&] { return definitions[static_cast<std::size_t>(popularity.draw(w.random()))]; }); });
}

// Graphs of definitions: cheap, and asked by deploy checks and pages now and then.
void graphs(Writer &w) {
  std::vector<int> definitions;
  for (int i = 0; i < 40; ++i) definitions.push_back(w.question(120, w.random().log_normal(0.02, 0.5), false));
  const Zipf popularity(40, 0.9);
  w.browse(0, kEnd, 60, [&] { return definitions[static_cast<std::size_t>(popularity.draw(w.random()))]; });
}

// Ninety days of everything: seconds to work out, asked by several people during the day.
void reports(Writer &w) {
  std::vector<int> all;
  for (int i = 0; i < 6; ++i) all.push_back(w.question(90, w.random().log_normal(3, 0.4)));
  const Zipf popularity(6, 0.8);
  office_hours([&](double from, double to) { w.browse(from, to, 200, [&] { return all[static_cast<std::size_t>(popularity.draw(w.random()))]; }); });
}

// Something is wrong: for twenty minutes a day everybody reloads the same pages.
void incidents(Writer &w) {
  const std::array<int, 3> pages = {w.question(90, 1.5), w.question(120, 0.8), w.question(120, 0.3)};
  for (double begin = 0; begin < kEnd; begin += kDay) {
    const double from = begin + (9 + 8 * w.random().unit()) * kHour;
    for (int person = 0; person < 25; ++person)
      for (const int page : pages) w.poll(from, from + 1200, 12, page);
  }
}

void everything(Writer &w) {
  for (const auto part : {dashboards, monitoring, browsing, graphs, reports, incidents}) part(w);
}

struct Scenario {
  const char *name;
  void (*write)(Writer &);
};
constexpr std::array<Scenario, 7> kScenarios = {{{"dashboards", dashboards}, {"monitoring", monitoring}, {"browsing", browsing}, {"graphs", graphs}, {"reports", reports},
                                                 {"incidents", incidents}, {"everything", everything}}};

// --- rules ---

struct Rule {
  const char *name;
  std::function<double(const Question &, const CacheUse &, double now)> ttl;
};

std::int64_t microseconds(double seconds) { return static_cast<std::int64_t>(seconds * 1e6); }

double adaptive(const Question &question, const CacheUse &use, double now) { return tasker::core::plan_ttl(question.base_ttl, use, microseconds(now)).ttl_seconds; }
Rule scaled(const char *name, double factor) {
  return {name, [factor](const Question &question, const CacheUse &, double) { return question.base_ttl * factor; }};
}
Rule fixed(const char *name, double seconds) {
  return {name, [seconds](const Question &, const CacheUse &, double) { return seconds; }};
}

// --- replay ---

struct Figures {
  double accesses = 0, hits = 0, work = 0, age = 0;  // age: of what was answered, when it was asked for; sum of seconds
  std::vector<double> latencies;

  double hit_rate() const { return hits / accesses; }
  double mean_age() const { return age / accesses; }
  double mean_latency() const {
    double sum = 0;
    for (const double seconds : latencies) sum += seconds;
    return sum / accesses;
  }
};

struct State {
  CacheUse use;
  double begun = -1, ready = -1, expires = -1;
};

void replay(const Pattern &pattern, const Rule &rule, Figures &out) {
  std::vector<State> states(pattern.questions.size());
  for (const Access &access : pattern.accesses) {
    const Question &question = pattern.questions[static_cast<std::size_t>(access.question)];
    State &state = states[static_cast<std::size_t>(access.question)];
    const bool same_hour = !question.hourly || std::floor(state.begun / kHour) == std::floor(access.time / kHour);
    const bool hit = state.begun >= 0 && same_hour && (access.time < state.ready || access.time < state.expires);
    state.use.record_question(microseconds(access.time), hit);
    out.accesses++;
    if (hit) {
      out.hits++;
      out.latencies.push_back(kFromCache + std::max(0.0, state.ready - access.time));
      out.age += std::max(0.0, access.time - state.begun);
      continue;
    }
    out.latencies.push_back(access.cost);
    out.work += access.cost;
    state.use.record_generation(access.cost);
    state.begun = access.time;
    state.ready = access.time + access.cost;
    state.expires = access.time + rule.ttl(question, state.use, access.time);
  }
}

Figures run(const std::vector<Pattern> &patterns, const Rule &rule) {
  Figures out;
  for (const Pattern &pattern : patterns) replay(pattern, rule, out);
  std::sort(out.latencies.begin(), out.latencies.end());
  return out;
}

// Without a cache everybody works for himself.
Figures run_without(const std::vector<Pattern> &patterns) {
  Figures out;
  for (const Pattern &pattern : patterns)
    for (const Access &access : pattern.accesses) {
      out.accesses++;
      out.work += access.cost;
      out.latencies.push_back(access.cost);
    }
  std::sort(out.latencies.begin(), out.latencies.end());
  return out;
}

// Fixed times, as a multiple of the base, whose answers are as old as these.
Figures as_old(const std::vector<Pattern> &patterns, double age, double *factor) {
  double low = 0.05, high = 40;
  for (int i = 0; i < 24; ++i) {
    const double middle = std::sqrt(low * high);
    (run(patterns, scaled("", middle)).mean_age() < age ? low : high) = middle;
  }
  *factor = std::sqrt(low * high);
  return run(patterns, scaled("", *factor));
}

double quantile(const std::vector<double> &sorted, double q) { return sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1))]; }

std::vector<Pattern> write(const Scenario &scenario, int seeds) {
  std::vector<Pattern> out(static_cast<std::size_t>(seeds));
  for (int seed = 1; seed <= seeds; ++seed) {
    Pattern &pattern = out[static_cast<std::size_t>(seed - 1)];
    Writer writer(pattern, static_cast<std::uint64_t>(seed));
    scenario.write(writer);
    std::sort(pattern.accesses.begin(), pattern.accesses.end(), [](const Access &a, const Access &b) { return a.time < b.time; });
  }
  return out;
}

void print(const char *name, const Figures &figures, double hours) {
  std::printf("  %-26s %6.1f %9.1f %9.1f %9.1f %9.0f %8.1f\n", name, 100 * figures.hit_rate(), 1000 * figures.mean_latency(), 1000 * quantile(figures.latencies, 0.95),
              1000 * quantile(figures.latencies, 0.99), figures.work / hours, figures.mean_age());
}

void write_json(std::FILE *file, const char *name, const Figures &figures, double hours, const char *end) {
  std::fprintf(file, "\n   \"%s\": {\"hit_percent\": %.3f, \"mean_ms\": %.3f, \"p95_ms\": %.3f, \"p99_ms\": %.3f, \"work_seconds_an_hour\": %.3f, \"mean_age_seconds\": %.3f}%s", name,
               100 * figures.hit_rate(), 1000 * figures.mean_latency(), 1000 * quantile(figures.latencies, 0.95), 1000 * quantile(figures.latencies, 0.99), figures.work / hours,
               figures.mean_age(), end);
}

}  // namespace

int main(int argc, char **argv) {
  const int seeds = argc == 3 ? std::atoi(argv[1]) : 0;
  std::FILE *file = seeds > 0 ? std::fopen(argv[2], "w") : nullptr;
  if (file == nullptr) {
    std::fprintf(stderr, "cache_experiment: usage: cache_experiment SEEDS RESULTS.json\n");
    return 2;
  }
  const double hours = seeds * kEnd / kHour;
  std::printf("%-28s %6s %9s %9s %9s %9s %8s\n", "", "hits %", "mean ms", "p95 ms", "p99 ms", "work s/h", "age s");
  std::fprintf(file, "{\n \"seeds\": %d,\n \"scenarios\": [", seeds);
  for (const Scenario &scenario : kScenarios) {
    const std::vector<Pattern> patterns = write(scenario, seeds);
    const Figures none = run_without(patterns), built = run(patterns, {"adaptive", adaptive});
    double factor = 0;
    const Figures old = as_old(patterns, built.mean_age(), &factor);
    std::printf("%s, %.0f accesses an hour\n", scenario.name, built.accesses / hours);
    std::fprintf(file, "%s\n  {\"name\": \"%s\", \"as_old_factor\": %.3f, \"rules\": {", &scenario == &kScenarios.front() ? "" : ",", scenario.name, factor);
    print("no cache", none, hours);
    write_json(file, "none", none, hours, ",");
    for (const Rule &rule : {fixed("fixed, 30 s", 30), scaled("fixed, the base", 1), fixed("fixed, 300 s", 300)}) {
      const Figures figures = run(patterns, rule);
      print(rule.name, figures, hours);
      write_json(file, rule.name, figures, hours, ",");
    }
    print("adaptive", built, hours);
    write_json(file, "adaptive", built, hours, ",");
    char name[64];
    std::snprintf(name, sizeof name, "fixed, as old: base x %.2f", factor);
    print(name, old, hours);
    write_json(file, "fixed, as old", old, hours, "}}");
  }
  std::fprintf(file, "\n ]\n}\n");
  if (std::fclose(file) == 0) return 0;
  std::perror(argv[2]);
  return 1;
}
