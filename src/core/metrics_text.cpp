#include "core/metrics_text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "core/error.hpp"

namespace tasker::core {

namespace {

bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

// Of metrics and of labels. Colons are for rules that people write.
bool is_name(std::string_view name) noexcept {
  if (name.empty() || !is_letter(name.front())) return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return is_letter(c) || is_digit(c); });
}

void check_labels(const std::string &metric, const MetricLabels &labels) {
  std::set<std::string_view> seen;
  for (const auto &[name, _] : labels)
    if (!is_name(name) || !seen.insert(name).second) throw tasker::Error(sqlstate::kInternal, "metric " + metric + " has a wrong label \"" + name + "\"");
}

// A label without a value is the same as no label.
MetricLabels with_values(MetricLabels labels) {
  std::erase_if(labels, [](const auto &label) { return label.second.empty(); });
  return labels;
}

void append_escaped(std::string &out, std::string_view text, bool quotes) {
  for (const char c : text) {
    if (c == '\\') out += "\\\\";
    else if (c == '\n') out += "\\n";
    else if (c == '"' && quotes) out += "\\\"";
    else out += c;
  }
}

void append_labels(std::string &out, const MetricLabels &labels) {
  if (labels.empty()) return;
  char before = '{';
  for (const auto &[name, value] : labels) {
    out += before;
    before = ',';
    out += name + "=\"";
    append_escaped(out, value, true);
    out += '"';
  }
  out += '}';
}

// RFC 4180.
void append_cell(std::string &out, std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) {
    out += text;
    return;
  }
  out += '"';
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

std::string_view value_of(const MetricLabels &labels, std::string_view name) {
  for (const auto &label : labels)
    if (label.first == name) return label.second;
  return {};
}

// In seconds, the nearest double to the decimal number.
double bound_seconds(int power) { return std::ldexp(1.0, power) / 10'000.0; }

}  // namespace

const char *to_string(MetricType type) noexcept {
  switch (type) {
    case MetricType::kCounter: return "counter";
    case MetricType::kGauge: return "gauge";
    case MetricType::kHistogram: return "histogram";
  }
  return "";
}

void Metrics::declare(const std::string &name, MetricType type, std::string_view help) {
  if (!is_name(name)) throw tasker::Error(sqlstate::kInternal, "\"" + name + "\" is no name of a metric");
  const auto [place, fresh] = families_.try_emplace(name);
  if (fresh) place->second = {type, std::string(help), {}};
  else if (place->second.type != type) throw tasker::Error(sqlstate::kInternal, "metric " + name + " is declared with two types");
}

MetricFamily &Metrics::family(const std::string &name) {
  const auto found = families_.find(name);
  if (found == families_.end()) throw tasker::Error(sqlstate::kInternal, "metric " + name + " is not declared");
  return found->second;
}

void Metrics::add(const std::string &name, MetricLabels labels, double value) {
  check_labels(name, labels);
  family(name).samples.push_back({name, with_values(std::move(labels)), value});
}

void Metrics::add_durations(const std::string &name, const MetricLabels &labels, const Durations &durations) {
  check_labels(name, labels);
  std::vector<MetricSample> &samples = family(name).samples;
  const MetricLabels own = with_values(labels);
  const auto bucket = [&](const std::string &bound, std::int64_t count) {
    MetricLabels all = own;
    all.emplace_back("le", bound);
    samples.push_back({name + "_bucket", std::move(all), static_cast<double>(count)});
  };
  std::int64_t count = 0;
  int next = 0;
  for (int power = kFirstBound; power <= kLastBound; power++) {
    for (; next <= 8 * power; next++) count += durations.counts[static_cast<std::size_t>(next)];  // eight buckets to each doubling
    bucket(metric_value(bound_seconds(power)), count);
  }
  for (; next < kDurationBuckets; next++) count += durations.counts[static_cast<std::size_t>(next)];
  bucket("+Inf", count);
  samples.push_back({name + "_sum", own, durations.total_ms / 1000});
  samples.push_back({name + "_count", own, static_cast<double>(count)});
}

std::string metric_value(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char buffer[64];
  // As people write them, where that is short; the shortest digits that give the same double again.
  const double size = std::abs(value);
  const auto format = value == 0 || (size >= 1e-6 && size < 1e16) ? std::chars_format::fixed : std::chars_format::general;
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, format);
  return {buffer, end.ptr};
}

std::string prometheus_text(const Metrics &metrics) {
  std::string out;
  for (const auto &[name, family] : metrics.families()) {
    if (family.samples.empty()) continue;
    out += "# HELP " + name + " ";
    append_escaped(out, family.help, false);
    out += "\n# TYPE " + name + " " + to_string(family.type) + "\n";
    for (const MetricSample &sample : family.samples) {
      out += sample.name;
      append_labels(out, sample.labels);
      out += " " + metric_value(sample.value) + "\n";
    }
  }
  return out;
}

json metrics_array(const Metrics &metrics) {
  json out = json::array();
  for (const auto &[_, family] : metrics.families()) {
    for (const MetricSample &sample : family.samples) {
      json labels = json::object();
      for (const auto &[name, value] : sample.labels) labels[name] = value;
      out.push_back({{"name", sample.name}, {"type", to_string(family.type)}, {"labels", std::move(labels)}, {"value", sample.value}, {"help", family.help}});
    }
  }
  return out;
}

std::string metrics_csv(const Metrics &metrics, std::string_view timestamp) {
  std::set<std::string> columns;
  for (const auto &[_, family] : metrics.families())
    for (const MetricSample &sample : family.samples)
      for (const auto &label : sample.labels) columns.insert(label.first);
  std::string out = "timestamp,name,type,value";
  for (const std::string &column : columns) out += ",label_" + column;
  out += '\n';
  for (const auto &[_, family] : metrics.families()) {
    for (const MetricSample &sample : family.samples) {
      append_cell(out, timestamp);
      out += "," + sample.name + "," + to_string(family.type) + "," + metric_value(sample.value);
      for (const std::string &column : columns) {
        out += ',';
        append_cell(out, value_of(sample.labels, column));
      }
      out += '\n';
    }
  }
  return out;
}

}  // namespace tasker::core
