#include <algorithm>
#include <array>
#include <deque>
#include <set>
#include <utility>

#include "core/schema_keywords.hpp"

namespace tasker::core {
namespace schema {
namespace {

// Enough to mend a schema by; a hostile one cannot make the report larger than itself.
constexpr std::size_t kMaxFaults = 100;
constexpr std::string_view kDialect = "https://json-schema.org/draft/2020-12/schema";
constexpr auto kTypeNames =
    std::to_array<std::string_view>({"array", "boolean", "integer", "null", "number", "object", "string"});

bool is_distinct_strings(const json &argument) {
  if (!argument.is_array() || !std::ranges::all_of(argument, [](const json &item) { return item.is_string(); })) return false;
  std::vector<std::string_view> names(argument.size());
  std::ranges::transform(argument, names.begin(), text_of);
  std::ranges::sort(names);
  return std::ranges::adjacent_find(names) == names.end();
}

bool is_type_name(const json &argument) {
  return argument.is_string() && std::ranges::find(kTypeNames, text_of(argument)) != kTypeNames.end();
}

bool is_anchor(std::string_view name) {
  const auto is_letter = [](char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto may_follow = [&](char c) { return is_letter(c) || c == '-' || c == '.' || (c >= '0' && c <= '9'); };
  return !name.empty() && is_letter(name.front()) && std::ranges::all_of(name, may_follow);
}

std::string unless(bool sound, const char *problem) { return sound ? std::string() : std::string(problem); }

std::string pattern_problem(std::string_view pattern, const SchemaRegex &regex) {
  const std::string problem = regex.problem(pattern);
  return problem.empty() ? problem : "is not a regular expression: " + problem;
}

std::string types_problem(const json &argument) {
  const bool sound = is_type_name(argument) ||
                     (is_distinct_strings(argument) && !argument.empty() && std::ranges::all_of(argument, is_type_name));
  return unless(sound, "must be array, boolean, integer, null, number, object or string, or an array of some of these, each once");
}

std::string reference_problem(const json &argument) {
  if (!argument.is_string()) return "must be a string";
  return unless(text_of(argument).starts_with('#'), "refers to another document, which is not supported");
}

std::string dialect_problem(const json &argument) {
  if (!argument.is_string()) return "must be a string";
  std::string_view uri = text_of(argument);
  if (uri.ends_with('#')) uri.remove_suffix(1);
  return unless(uri == kDialect, "is not supported, only https://json-schema.org/draft/2020-12/schema is");
}

// What is wrong with the argument itself (not with the schemas inside it); empty when nothing is.
std::string argument_problem(Shape shape, const json &argument, const SchemaRegex &regex) {
  switch (shape) {
    case Shape::kAnything:
    case Shape::kSchema: return {};
    case Shape::kBoolean: return unless(argument.is_boolean(), "must be true or false");
    case Shape::kRootId:
    case Shape::kString: return unless(argument.is_string(), "must be a string");
    case Shape::kNumber: return unless(argument.is_number(), "must be a number");
    case Shape::kPositiveNumber:
      return unless(argument.is_number() && compare_numbers(argument, 0) > 0, "must be a number greater than 0");
    case Shape::kCount:
      return unless(is_integer(argument) && compare_numbers(argument, 0) >= 0, "must be an integer that is not negative");
    case Shape::kArray: return unless(argument.is_array(), "must be an array");
    case Shape::kNames: return unless(is_distinct_strings(argument), "must be an array of strings, each once");
    case Shape::kNamesByName:
      return unless(argument.is_object() && std::ranges::all_of(argument, is_distinct_strings),
                    "must be an object whose values are arrays of strings, each once");
    case Shape::kTypes: return types_problem(argument);
    case Shape::kPattern:
      return argument.is_string() ? pattern_problem(text_of(argument), regex) : "must be a string";
    case Shape::kFormat: return unless(argument.is_string() && known_format(text_of(argument)), "is not a known format");
    case Shape::kSchemas: return unless(argument.is_array() && !argument.empty(), "must be an array of at least one schema");
    case Shape::kSchemaByName:
    case Shape::kSchemaByPattern: return unless(argument.is_object(), "must be an object whose values are schemas");
    case Shape::kReference: return reference_problem(argument);
    case Shape::kAnchor:
      return unless(argument.is_string() && is_anchor(text_of(argument)),
                    "must be a letter or _, then letters, digits, -, _ and . only");
    case Shape::kDialect: return dialect_problem(argument);
    case Shape::kUnsupported: return "is not supported";
  }
  return {};
}

// Walks the schema with a stack of its own, so that nesting costs no C stack.
class Checker {
 public:
  Checker(const json &root, const SchemaRegex &regex) : regex_(regex), references_(root) { add(&root, nullptr); }

  std::vector<Violation> run() && {
    std::vector<std::size_t> pending{0};
    while (!pending.empty() && faults_.size() < kMaxFaults) {
      const std::size_t node = pending.back();
      pending.pop_back();
      check_keywords(node);
      const std::size_t first_child = nodes_.size();
      add_children(node);
      for (std::size_t child = nodes_.size(); child > first_child; --child) pending.push_back(child - 1);
    }
    // Targets and cycles are known only when all the schemas are.
    if (faults_.size() < kMaxFaults) check_references();
    if (faults_.empty()) check_cycles();
    return std::move(faults_);
  }

 private:
  struct Node {
    const json *schema;
    const Place *place;
    std::vector<std::size_t> in_place;  // the schemas that apply to the same value: children and the target of $ref
  };

  const Place *place_inside(const Place *parent, std::string_view name, std::size_t index = 0) {
    return &places_.emplace_back(Place{parent, name, index});
  }

  std::size_t add(const json *schema, const Place *place) {
    nodes_.push_back({schema, place, {}});
    numbers_.emplace(schema, nodes_.size() - 1);
    return nodes_.size() - 1;
  }

  void fault(const Place *place, std::string problem) {
    if (faults_.size() < kMaxFaults) faults_.push_back({pointer_of(place), std::move(problem)});
  }

  void check_keywords(std::size_t node);
  void check_keyword(const Keyword &keyword, const json &argument, const Place *place, bool at_root);
  void check_patterns(const json &argument, const Place *place);
  void add_children(std::size_t node);
  void check_references();
  void check_cycles();

  using Path = std::vector<std::pair<std::size_t, std::size_t>>;  // node, and its next edge
  void report_cycle(const Path &path);

  const SchemaRegex &regex_;
  References references_;
  std::deque<Place> places_;  // a deque: places point to each other
  std::vector<Node> nodes_;
  std::unordered_map<const json *, std::size_t> numbers_;  // schema → its node
  std::set<std::string_view> anchors_;
  std::vector<Violation> faults_;
};

void Checker::check_keywords(std::size_t node) {
  const json &schema = *nodes_[node].schema;
  const Place *place = nodes_[node].place;
  if (schema.is_boolean()) return;
  if (!schema.is_object()) return fault(place, "must be a schema: an object, true or false");
  for (const auto &[name, argument] : members(schema)) {
    if (faults_.size() >= kMaxFaults) return;
    const Place here{place, name};
    const Keyword *keyword = find_keyword(name);
    if (keyword == nullptr) {
      fault(&here, "is not a known keyword");
    } else {
      check_keyword(*keyword, argument, &here, node == 0);
    }
  }
}

void Checker::check_keyword(const Keyword &keyword, const json &argument, const Place *place, bool at_root) {
  const bool root_only = keyword.shape == Shape::kRootId || keyword.shape == Shape::kDialect;
  std::string problem = argument_problem(keyword.shape, argument, regex_);
  if (problem.empty() && root_only && !at_root) problem = "is supported at the root of the schema only";
  if (problem.empty() && keyword.shape == Shape::kAnchor && !anchors_.insert(text_of(argument)).second) {
    problem = "is the name of another schema too";
  }
  if (!problem.empty()) return fault(place, std::move(problem));
  if (keyword.shape == Shape::kSchemaByPattern) check_patterns(argument, place);
}

void Checker::check_patterns(const json &argument, const Place *place) {
  for (const auto &[pattern, subschema] : members(argument)) {
    const Place here{place, pattern};
    std::string problem = pattern_problem(pattern, regex_);
    if (!problem.empty()) fault(&here, std::move(problem));
  }
}

void Checker::add_children(std::size_t node) {
  const Place *parent = nodes_[node].place;
  for_each_subschema(*nodes_[node].schema, [&](const Inside &inside) {
    const Place *place = place_inside(parent, inside.keyword->name);
    if (inside.keyword->shape != Shape::kSchema) place = place_inside(place, inside.name, inside.index);
    const std::size_t child = add(inside.schema, place);
    if (inside.keyword->in_place) nodes_[node].in_place.push_back(child);
  });
}

void Checker::check_references() {
  for (Node &node : nodes_) {
    if (!node.schema->is_object()) continue;
    const auto reference = node.schema->find("$ref");
    if (reference == node.schema->end() || !reference_problem(*reference).empty()) continue;
    const Place here{node.place, "$ref"};
    const json *target = references_.resolve(*reference);
    const auto found = numbers_.find(target);
    if (target == nullptr) {
      fault(&here, "refers to nothing in this schema");
    } else if (found == numbers_.end()) {
      fault(&here, "refers to something that is not a schema");
    } else {
      node.in_place.push_back(found->second);
    }
  }
}

// Children alone cannot form a cycle, so one of the nodes of the path that is being walked has a $ref.
void Checker::report_cycle(const Path &path) {
  const auto guilty = std::find_if(path.rbegin(), path.rend(), [&](const auto &step) {
    const json &schema = *nodes_[step.first].schema;
    return schema.is_object() && schema.contains("$ref");
  });
  const Place here{nodes_[guilty->first].place, "$ref"};
  fault(&here, "leads back to itself without going deeper into the value");
}

// Depth-first over the in-place edges: one that leads back into the current path would be followed for ever.
void Checker::check_cycles() {
  enum class Mark : std::uint8_t { kNew, kOnPath, kDone };
  std::vector<Mark> marks(nodes_.size(), Mark::kNew);
  Path path;
  for (std::size_t start = 0; start < nodes_.size(); ++start) {
    if (marks[start] != Mark::kNew) continue;
    marks[start] = Mark::kOnPath;
    path.emplace_back(start, 0);
    while (!path.empty()) {
      const std::size_t node = path.back().first;
      if (path.back().second == nodes_[node].in_place.size()) {
        marks[node] = Mark::kDone;
        path.pop_back();
        continue;
      }
      const std::size_t next = nodes_[node].in_place[path.back().second++];
      if (marks[next] == Mark::kOnPath) {
        report_cycle(path);
      } else if (marks[next] == Mark::kNew) {
        marks[next] = Mark::kOnPath;
        path.emplace_back(next, 0);
      }
    }
  }
}

}  // namespace
}  // namespace schema

std::vector<Violation> check_schema(const json &document, const SchemaRegex &regex) {
  return schema::Checker(document, regex).run();
}

}  // namespace tasker::core
