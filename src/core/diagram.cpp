#include "core/diagram.hpp"

#include <algorithm>
#include <array>

#include "core/error.hpp"

namespace tasker::core {
namespace {

struct Colour {
  StepState state;
  const char *fill, *stroke;
};
// Dark text is readable on all of them, and each label names its state: colour is never the only sign.
constexpr std::array kColours{
    Colour{StepState::kPending, "#eceff1", "#90a4ae"},   Colour{StepState::kInProgress, "#bbdefb", "#1976d2"},
    Colour{StepState::kComplete, "#c8e6c9", "#388e3c"},  Colour{StepState::kError, "#ffcdd2", "#d32f2f"},
    Colour{StepState::kCancelled, "#d7ccc8", "#5d4037"}, Colour{StepState::kResolvedManually, "#e1bee7", "#7b1fa2"},
    Colour{StepState::kSkipped, "#fff9c4", "#fbc02d"},
};

bool harmless(char c) {
  const auto in = [c](char from, char to) { return c >= from && c <= to; };
  return in('a', 'z') || in('A', 'Z') || in('0', '9') || c == ' ' || c == '_' || c == '.' || c == ',' || c == '-' || c == '/' || (static_cast<unsigned char>(c) & 0x80u) != 0;
}

bool control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

// A title stands in YAML, where nothing is decoded afterwards.
std::string yaml_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += control(c) ? ' ' : c;
  }
  return out;
}

std::string id(int node) { return "s" + std::to_string(node + 1); }

std::string mermaid(const Diagram &diagram) {
  std::string out = "---\ntitle: \"" + yaml_text(diagram.title) + "\"\n---\nflowchart TD\n";
  for (int node = 0; node < diagram.graph->size(); ++node) {
    const DiagramStep &step = diagram.steps[static_cast<std::size_t>(node)];
    out += "  " + id(node) + "[\"" + mermaid_text(step.name);
    if (!step.note.empty()) out += "<br/>" + mermaid_text(step.note);
    out += "\"]\n";
  }
  for (int node = 0; node < diagram.graph->size(); ++node)
    for (const int child : diagram.graph->children(node)) out += "  " + id(node) + " --> " + id(child) + "\n";
  for (const Colour &colour : kColours) {
    std::string members;
    for (int node = 0; node < diagram.graph->size(); ++node) {
      if (diagram.steps[static_cast<std::size_t>(node)].state != colour.state) continue;
      members += (members.empty() ? "" : ",") + id(node);
    }
    if (members.empty()) continue;
    out += std::string("  classDef ") + to_string(colour.state) + " fill:" + colour.fill + ",stroke:" + colour.stroke + ",color:#000000\n";
    out += "  class " + members + " " + to_string(colour.state) + "\n";
  }
  return out;
}

std::string dot(const Diagram &diagram) {
  std::string out = "digraph task {\n  label=\"" + dot_text(diagram.title) +
                    "\";\n  labelloc=t;\n  node [shape=box, style=\"rounded,filled\", fillcolor=\"#ffffff\", fontname=\"Helvetica\"];\n";
  for (int node = 0; node < diagram.graph->size(); ++node) {
    const DiagramStep &step = diagram.steps[static_cast<std::size_t>(node)];
    out += "  " + id(node) + " [label=\"" + dot_text(step.name);
    if (!step.note.empty()) out += "\\n" + dot_text(step.note);
    out += "\"";
    const auto colour = std::find_if(kColours.begin(), kColours.end(), [&](const Colour &c) { return step.state == c.state; });
    if (colour != kColours.end()) out += std::string(", fillcolor=\"") + colour->fill + "\", color=\"" + colour->stroke + "\"";
    out += "];\n";
  }
  for (int node = 0; node < diagram.graph->size(); ++node)
    for (const int child : diagram.graph->children(node)) out += "  " + id(node) + " -> " + id(child) + ";\n";
  return out + "}\n";
}

}  // namespace

std::optional<DiagramFormat> parse_diagram_format(std::string_view name) noexcept {
  if (name == "mermaid") return DiagramFormat::kMermaid;
  if (name == "dot") return DiagramFormat::kDot;
  return std::nullopt;
}

// Mermaid writes characters as #code; in labels, and takes all other escapes literally. Two things it looks for only after
// that, an icon (fa:fa-ban) and a formula ($$x$$): an invisible word joiner keeps them apart.
std::string mermaid_text(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (control(c)) out += ' ';
    else if (harmless(c)) out += c;
    else out += "#" + std::to_string(static_cast<int>(c)) + ";";
    if ((c == ':' && text.substr(i + 1).starts_with("fa-")) || (c == '$' && text.substr(i + 1).starts_with('$'))) out += "#8288;";
  }
  return out;
}

// A backslash of its own would start one of Graphviz's escapes (\N is the node's name); & starts an entity.
std::string dot_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (control(c)) out += ' ';
    else if (c == '"' || c == '\\') out += std::string("\\") + c;
    else if (c == '&') out += "&amp;";
    else out += c;
  }
  return out;
}

std::string draw(const Diagram &diagram, DiagramFormat format) {
  if (diagram.steps.size() != static_cast<std::size_t>(diagram.graph->size())) throw Error(sqlstate::kInternal, "a diagram's steps are not those of its graph");
  return format == DiagramFormat::kMermaid ? mermaid(diagram) : dot(diagram);
}

}  // namespace tasker::core
