// Workflows as pictures: text for Mermaid and for Graphviz. Steps are named s1, s2 … in it; what people wrote stands in
// quoted labels only, escaped so that no name can become syntax or markup.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/graph.hpp"
#include "core/state.hpp"

namespace tasker::core {

enum class DiagramFormat : std::uint8_t { kMermaid, kDot };
std::optional<DiagramFormat> parse_diagram_format(std::string_view name) noexcept;  // "mermaid", "dot"

struct DiagramStep {
  std::string name;
  std::string note;                // a second line; "" for none
  std::optional<StepState> state;  // of a task's step: colours it
};
struct Diagram {
  std::string title;
  const Graph *graph = nullptr;
  std::vector<DiagramStep> steps;  // as many as the graph has nodes
};
std::string draw(const Diagram &diagram, DiagramFormat format);

// The inside of a quoted label. Line breaks and other control characters become spaces.
std::string mermaid_text(std::string_view text);
std::string dot_text(std::string_view text);

}  // namespace tasker::core
