// Between the files that make the documents of core/graph_report.
#pragma once

#include "core/graph_report.hpp"

namespace tasker::core::graph_report {

// Durations by which paths are compared: measured ones, or where no step has any, one second each.
struct Weights {
  bool measured = false;
  std::vector<Micros> durations;
};

inline std::size_t at(int node) { return static_cast<std::size_t>(node); }
inline double seconds(Micros time) { return static_cast<double>(time) / 1e6; }
double rounded(double value);  // to hundredths
const char *severity_of(double score) noexcept;
std::string span_text(Micros time);  // "1.2 s", "350 ms"
json names_of(const GraphCase &subject, const std::vector<int> &nodes);

// From what is known beforehand; `path` by measured durations or not.
json suggestions(const GraphCase &subject, const Weights &weights, const CriticalPath &path);
// And from how the task's own steps went, appended to the others.
void add_live_suggestions(const TaskGraphCase &task, json &suggestions);

}  // namespace tasker::core::graph_report
