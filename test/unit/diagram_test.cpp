#include "core/diagram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

using namespace tasker::core;

namespace {

std::string drawn(const std::string &name, DiagramFormat format) {
  const Graph graph(std::vector<std::vector<int>>(1));
  return draw({"t", &graph, {{name, "", std::nullopt}}}, format);
}

// What stands between the quotes of the only label.
std::string label(const std::string &text, const std::string &before, const std::string &after) {
  const std::size_t from = text.find(before) + before.size();
  return text.substr(from, text.rfind(after) - from);
}

}  // namespace

TEST(Diagram, MermaidOfATask) {
  const Graph graph({{}, {0}, {0}, {1, 2}});
  const Diagram diagram{"shop.order 1.0.0", &graph, {{"a", "complete", StepState::kComplete}, {"b", "error, 2 attempts", StepState::kError},
                                                     {"c", "complete", StepState::kComplete}, {"d", "pending", StepState::kPending}}};
  EXPECT_EQ(draw(diagram, DiagramFormat::kMermaid),
            "---\ntitle: \"shop.order 1.0.0\"\n---\nflowchart TD\n"
            "  s1[\"a<br/>complete\"]\n  s2[\"b<br/>error, 2 attempts\"]\n  s3[\"c<br/>complete\"]\n  s4[\"d<br/>pending\"]\n"
            "  s1 --> s2\n  s1 --> s3\n  s2 --> s4\n  s3 --> s4\n"
            "  classDef pending fill:#eceff1,stroke:#90a4ae,color:#000000\n  class s4 pending\n"
            "  classDef complete fill:#c8e6c9,stroke:#388e3c,color:#000000\n  class s1,s3 complete\n"
            "  classDef error fill:#ffcdd2,stroke:#d32f2f,color:#000000\n  class s2 error\n");
}

TEST(Diagram, DotOfATask) {
  const Graph graph({{}, {0}});
  const Diagram diagram{"t", &graph, {{"a", "complete", StepState::kComplete}, {"b", "sql", std::nullopt}}};
  EXPECT_EQ(draw(diagram, DiagramFormat::kDot),
            "digraph task {\n  label=\"t\";\n  labelloc=t;\n  node [shape=box, style=\"rounded,filled\", fillcolor=\"#ffffff\", fontname=\"Helvetica\"];\n"
            "  s1 [label=\"a\\ncomplete\", fillcolor=\"#c8e6c9\", color=\"#388e3c\"];\n  s2 [label=\"b\\nsql\"];\n  s1 -> s2;\n}\n");
}

TEST(Diagram, EveryStateHasAColourOfItsOwn) {
  std::vector<std::string> seen;
  for (const StepState state : {StepState::kPending, StepState::kInProgress, StepState::kComplete, StepState::kError, StepState::kCancelled,
                                StepState::kResolvedManually, StepState::kSkipped}) {
    const Graph graph(std::vector<std::vector<int>>(1));
    const std::string text = draw({"t", &graph, {{"a", "", state}}}, DiagramFormat::kDot);
    ASSERT_NE(text.find(", fillcolor="), std::string::npos) << to_string(state);
    const std::string colour = label(text, ", fillcolor=", "]");
    EXPECT_EQ(std::count(seen.begin(), seen.end(), colour), 0) << to_string(state);
    seen.push_back(colour);
  }
}

TEST(Diagram, HostileNamesStayInsideMermaidLabels) {
  for (const std::string name : {"\"]; click s1 \"javascript:alert(1)\"", "<script>alert(1)</script>", "a\n  s9[x]", "`**b**`", "%%{init: {}}%%", "#quot;", "&lt;", "a;b", "{x}|y|(z)", "\\"}) {
    const std::string text = drawn(name, DiagramFormat::kMermaid);
    const std::string inside = label(text, "s1[\"", "\"]");
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5) << text;
    EXPECT_EQ(inside.find_first_of("\"<>`%{}|\\[]()\n\r"), std::string::npos) << inside;
    // What is left of these two are codes.
    for (std::size_t at = inside.find('#'); at != std::string::npos; at = inside.find('#', at + 1)) EXPECT_TRUE(std::isdigit(inside[at + 1])) << inside;
  }
  EXPECT_EQ(mermaid_text("a:b[0]"), "a#58;b#91;0#93;");
  EXPECT_EQ(mermaid_text("\xC3\xA9t\xC3\xA9"), "\xC3\xA9t\xC3\xA9");
  // Neither an icon nor a formula.
  EXPECT_EQ(mermaid_text("fa:fa-ban"), "fa#58;#8288;fa-ban");
  EXPECT_EQ(mermaid_text("$$x"), "#36;#8288;#36;x");
}

TEST(Diagram, HostileNamesStayInsideDotLabels) {
  EXPECT_EQ(dot_text("a\"]; s9 [label=\"x"), "a\\\"]; s9 [label=\\\"x");
  EXPECT_EQ(dot_text("\\N\\"), "\\\\N\\\\");
  EXPECT_EQ(dot_text("a\nb\tc&d"), "a b c&amp;d");
  EXPECT_NE(drawn("\\", DiagramFormat::kDot).find("s1 [label=\"\\\\\"];\n"), std::string::npos);
}

TEST(Diagram, TitlesAreYaml) {
  const Graph graph(std::vector<std::vector<int>>(1));
  EXPECT_EQ(draw({"a \"b\" \\\n---\n", &graph, {{"x", "", std::nullopt}}}, DiagramFormat::kMermaid).find("---\ntitle: \"a \\\"b\\\" \\\\ --- \"\n---\nflowchart TD\n"), 0u);
}

TEST(Diagram, Formats) {
  EXPECT_EQ(parse_diagram_format("mermaid"), DiagramFormat::kMermaid);
  EXPECT_EQ(parse_diagram_format("dot"), DiagramFormat::kDot);
  EXPECT_EQ(parse_diagram_format("svg"), std::nullopt);
  EXPECT_EQ(parse_diagram_format("DOT"), std::nullopt);
}
