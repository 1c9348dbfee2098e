// Metrics as monitoring systems read them: Prometheus' text format, JSON and CSV.
//
// A family is one name with its help and type; its samples differ by their labels. Histograms follow the buckets of
// core/durations.hpp, whose every eighth bound is a power of two times 0.1 ms: those are the bounds told, so that each count is
// exact and none is guessed from its neighbours.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/durations.hpp"
#include "core/json.hpp"

namespace tasker::core {

enum class MetricType : std::uint8_t { kCounter, kGauge, kHistogram };
const char *to_string(MetricType type) noexcept;

using MetricLabels = std::vector<std::pair<std::string, std::string>>;  // in the order they are told; no name twice
struct MetricSample {
  std::string name;  // the family's, for parts of a histogram with _bucket, _sum or _count behind it
  MetricLabels labels;
  double value = 0;
};
struct MetricFamily {
  MetricType type = MetricType::kGauge;
  std::string help;
  std::vector<MetricSample> samples;
};

class Metrics {
 public:
  // The family of this name. Raises XX000 for a name that Prometheus does not take, and when it is there with another type.
  void declare(const std::string &name, MetricType type, std::string_view help);
  // To a declared family that is no histogram. Labels without a value are left out.
  void add(const std::string &name, MetricLabels labels, double value);
  // To a declared histogram, in seconds: buckets up to +Inf, sum, count.
  void add_durations(const std::string &name, const MetricLabels &labels, const Durations &durations);
  const std::map<std::string, MetricFamily> &families() const noexcept { return families_; }

 private:
  MetricFamily &family(const std::string &name);
  std::map<std::string, MetricFamily> families_;
};

// Bounds of histograms, without the last, +Inf: 0.1 ms times two to these powers, 0.8 ms to 3.7 hours.
inline constexpr int kFirstBound = 3, kLastBound = 27;

// As the text format has it: 17, 0.25, NaN, +Inf.
std::string metric_value(double value);

// Families by name, each with one HELP and one TYPE line and its samples together. Families without a sample are left out.
std::string prometheus_text(const Metrics &metrics);
// An array of {name, type, labels, value, help}; a value that is no number in JSON is null.
json metrics_array(const Metrics &metrics);
// A header and a line for each sample: timestamp, name, type, value, and a column label_… for each label there is, in order.
std::string metrics_csv(const Metrics &metrics, std::string_view timestamp);

}  // namespace tasker::core
