// The official JSON Schema test suite.
//
// It is looked for in $JSON_SCHEMA_TEST_SUITE (a directory with draft2020-12 in it, as `tests` of
// https://github.com/json-schema-org/JSON-Schema-Test-Suite), else where Debian's json-schema-test-suite puts it.
// Debian's is of 2020 and ends with draft 7, most of which has the same meaning in draft 2020-12: it is run when
// there is nothing newer.

// GCC 12 with sanitizers takes parts of std::regex for uninitialised (its bug 105562); the warning comes at inlining,
// so that the whole file has to go without it.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "core/schema.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <vector>

namespace tasker::core {
namespace {

namespace fs = std::filesystem;

std::wstring characters_of(std::string_view utf8) {
  std::wstring wide;
  for (std::size_t i = 0; i < utf8.size();) {
    const auto lead = static_cast<unsigned char>(utf8[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t point = length == 1 ? lead : lead & (0xFFU >> (length + 1));
    for (std::size_t k = 1; k < length && i + k < utf8.size(); ++k) point = (point << 6U) | (static_cast<unsigned char>(utf8[i + k]) & 0x3FU);
    wide += static_cast<wchar_t>(point);
    i += length;
  }
  return wide;
}

// A stand-in for PostgreSQL's engine: ECMAScript as the suite expects, but recursive, so for short texts only.
class StandInRegex : public SchemaRegex {
 public:
  bool matches(std::string_view pattern, std::string_view text) const override {
    return std::regex_search(characters_of(text), std::wregex(characters_of(pattern), std::regex::ECMAScript));
  }
  std::string problem(std::string_view pattern) const override {
    try {
      std::wregex compiled(characters_of(pattern), std::regex::ECMAScript);
      return {};
    } catch (const std::regex_error &error) {
      return error.what();
    }
  }
};

// Groups whose answers are not the suite's, on purpose, with the reason. A group that fails and is not listed fails
// the test; so does one that is listed and passes.
using Listed = std::map<std::string, const char *>;

Listed listing(const std::vector<std::pair<const char *, std::vector<std::string>>> &by_reason) {
  Listed listed;
  for (const auto &[reason, groups] : by_reason) {
    for (const std::string &group : groups) listed.emplace(group, reason);
  }
  return listed;
}

constexpr const char *kRemote = "a $ref by URI, into another document or by way of $id, is not supported";
constexpr const char *kNestedId = "$id below the root, which starts a document of its own, is not supported";
constexpr const char *kDynamic = "$dynamicRef and $dynamicAnchor are not supported";
constexpr const char *kDialect = "vocabularies and dialects other than 2020-12 are not supported";
constexpr const char *kUnknownKeyword = "an unknown keyword is a fault of the schema";
constexpr const char *kEarlierDraft = "means something else, or nothing, in draft 2020-12";
constexpr const char *kNotASchema = "a $ref must lead to a schema";
constexpr const char *kAsserted = "formats are asserted, not only noted";
constexpr const char *kUnknownFormat = "an unknown format is a fault of the schema";
constexpr const char *kContent = "contentEncoding and contentMediaType are annotations in draft 2020-12";
constexpr const char *kPunycode = "of internationalised host names only the ASCII form is looked at";
constexpr const char *kStandIn = "std::regex, which stands in for PostgreSQL's engine, is not ECMA 262 to the letter";

const Listed &listed_of_2020_12() {
  static const Listed listed = listing({
      {kRemote,
       {"anchor: Location-independent identifier with absolute URI",
        "anchor: Location-independent identifier with base URI change in subschema",
        "anchor: same $anchor with different base uri", "defs: validate definition against metaschema",
        "optional/cross-draft: refs to historic drafts are processed as historic drafts",
        "ref: URN base URI with URN and JSON pointer ref", "ref: URN base URI with URN and anchor ref",
        "ref: URN ref with nested pointer ref", "ref: order of evaluation: $id and $ref",
        "ref: order of evaluation: $id and $ref on nested schema", "ref: ref to else", "ref: ref to if",
        "ref: ref to then", "ref: ref with absolute-path-reference", "ref: refs with relative uris and defs",
        "ref: relative refs with absolute uris and defs", "ref: remote ref, containing refs itself",
        "ref: simple URN base URI with $ref via the URN", "refRemote: $ref to $ref finds detached $anchor",
        "refRemote: Location-independent identifier in remote ref", "refRemote: anchor within remote ref",
        "refRemote: fragment within remote ref", "refRemote: ref within remote ref",
        "refRemote: remote HTTP ref with different $id", "refRemote: remote HTTP ref with different URN $id",
        "refRemote: remote HTTP ref with nested absolute ref", "refRemote: remote ref",
        "refRemote: remote ref with ref to defs",
        "refRemote: retrieved nested refs resolve relative to their URI not $id", "refRemote: root ref in remote ref"}},
      {kNestedId,
       {"optional/id: $id inside an enum is not a real identifier",
        "ref: $id must be resolved against nearest parent, not just immediate parent",
        "ref: Recursive references between schemas", "ref: order of evaluation: $id and $anchor and $ref",
        "refRemote: base URI change", "refRemote: base URI change - change folder",
        "refRemote: base URI change - change folder in subschema"}},
      {kDynamic,
       {"dynamicRef: $dynamicRef avoids the root of each schema, but scopes are still registered",
        "dynamicRef: $dynamicRef points to a boolean schema",
        "dynamicRef: $dynamicRef skips over intermediate resources - direct reference",
        "dynamicRef: $ref and $dynamicAnchor are independent of order - $defs first",
        "dynamicRef: $ref and $dynamicAnchor are independent of order - $ref first",
        "dynamicRef: $ref to $dynamicRef finds detached $dynamicAnchor",
        "dynamicRef: A $dynamicRef resolves to the first $dynamicAnchor still in scope that is encountered when the schema is evaluated",
        "dynamicRef: A $dynamicRef that initially resolves to a schema with a matching $dynamicAnchor resolves to the first $dynamicAnchor in the dynamic scope",
        "dynamicRef: A $dynamicRef that initially resolves to a schema without a matching $dynamicAnchor behaves like a normal $ref to $anchor",
        "dynamicRef: A $dynamicRef to a $dynamicAnchor in the same schema resource behaves like a normal $ref to an $anchor",
        "dynamicRef: A $dynamicRef to an $anchor in the same schema resource behaves like a normal $ref to an $anchor",
        "dynamicRef: A $dynamicRef with a non-matching $dynamicAnchor in the same schema resource behaves like a normal $ref to $anchor",
        "dynamicRef: A $dynamicRef with intermediate scopes that don't include a matching $dynamicAnchor does not affect dynamic scope resolution",
        "dynamicRef: A $dynamicRef without a matching $dynamicAnchor in the same schema resource behaves like a normal $ref to $anchor",
        "dynamicRef: A $dynamicRef without anchor in fragment behaves identical to $ref",
        "dynamicRef: A $ref to a $dynamicAnchor in the same schema resource behaves like a normal $ref to an $anchor",
        "dynamicRef: An $anchor with the same name as a $dynamicAnchor is not used for dynamic scope resolution",
        "dynamicRef: after leaving a dynamic scope, it is not used by a $dynamicRef",
        "dynamicRef: multiple dynamic paths to the $dynamicRef keyword",
        "dynamicRef: strict-tree schema, guards against misspelled properties",
        "dynamicRef: tests for implementation dynamic anchor and reference link",
        "optional/dynamicRef: $dynamicRef skips over intermediate resources - pointer reference across resource boundary",
        "unevaluatedItems: unevaluatedItems with $dynamicRef",
        "unevaluatedProperties: unevaluatedProperties with $dynamicRef"}},
      {kDialect,
       {"optional/format-assertion: schema that uses custom metaschema with format-assertion: false",
        "optional/format-assertion: schema that uses custom metaschema with format-assertion: true",
        "vocabulary: ignore unrecognized optional vocabulary",
        "vocabulary: schema that uses custom metaschema with with no validation vocabulary"}},
      {kUnknownKeyword,
       {"optional/refOfUnknownKeyword: reference of a root arbitrary keyword ",
        "optional/refOfUnknownKeyword: reference of a root arbitrary keyword with encoded ref",
        "optional/refOfUnknownKeyword: reference of an arbitrary keyword of a sub-schema",
        "optional/refOfUnknownKeyword: reference of an arbitrary keyword of a sub-schema with encoded ref",
        "optional/unknownKeyword: $id inside an unknown keyword is not a real identifier"}},
      {kEarlierDraft,
       {"optional/dependencies-compatibility: boolean subschemas",
        "optional/dependencies-compatibility: dependencies with escaped characters",
        "optional/dependencies-compatibility: empty dependents",
        "optional/dependencies-compatibility: multiple dependents required",
        "optional/dependencies-compatibility: schema dependencies with escaped characters",
        "optional/dependencies-compatibility: single dependency",
        "optional/dependencies-compatibility: single schema dependency"}},
      {kNotASchema,
       {"optional/refOfUnknownKeyword: reference internals of known non-applicator"}},
      {kAsserted,
       {"format: date format", "format: date-time format", "format: duration format", "format: email format",
        "format: hostname format", "format: ipv4 format", "format: ipv6 format", "format: json-pointer format",
        "format: regex format", "format: time format", "format: uri format", "format: uri-reference format",
        "format: uuid format"}},
      {kUnknownFormat,
       {"format: idn-email format", "format: idn-hostname format", "format: iri format", "format: iri-reference format",
        "format: relative-json-pointer format", "format: uri-template format"}},
      {kPunycode,
       {"optional/format/hostname: validation of A-label (punycode) host names"}},
      {kStandIn,
       {"optional/ecmascript-regex: ECMA 262 \\S matches everything but whitespace",
        "optional/ecmascript-regex: ECMA 262 \\s matches whitespace",
        "optional/ecmascript-regex: ECMA 262 regex escapes control codes with \\c and lower letter",
        "optional/ecmascript-regex: ECMA 262 regex escapes control codes with \\c and upper letter",
        "optional/ecmascript-regex: \\a is not an ECMA 262 control escape",
        "optional/ecmascript-regex: pattern with non-ASCII digits",
        "optional/ecmascript-regex: patternProperties with non-ASCII digits",
        "optional/ecmascript-regex: patterns always use unicode semantics with pattern",
        "optional/ecmascript-regex: patterns always use unicode semantics with patternProperties",
        "pattern: pattern with Unicode property escape requires unicode mode",
        "patternProperties: patternProperties with Unicode property escape"}},
  });
  return listed;
}

const Listed &listed_of_draft7() {
  static const Listed listed = listing({
      {kRemote,
       {"definitions: invalid definition", "definitions: valid definition", "ref: remote ref, containing refs itself",
        "refRemote: fragment within remote ref", "refRemote: ref within remote ref", "refRemote: remote ref",
        "refRemote: root ref in remote ref"}},
      {kNestedId,
       {"ref: Recursive references between schemas", "refRemote: base URI change - change folder",
        "refRemote: base URI change - change folder in subschema", "refRemote: base URI change"}},
      {kUnknownKeyword,
       {"ref: escaped pointer ref"}},
      {kEarlierDraft,
       {"additionalItems: additionalItems are allowed by default",
        "additionalItems: additionalItems as false without items", "additionalItems: additionalItems as schema",
        "additionalItems: array of items with no additionalItems",
        "additionalItems: items is schema, no additionalItems", "dependencies: dependencies",
        "dependencies: dependencies with boolean subschemas", "dependencies: dependencies with empty array",
        "dependencies: multiple dependencies", "dependencies: multiple dependencies subschema",
        "items: an array of schemas for items", "items: items with boolean schemas",
        "ref: ref overrides any sibling keywords", "ref: relative pointer ref to array"}},
      {kContent,
       {"optional/content: validation of binary string-encoding",
        "optional/content: validation of binary-encoded media type documents",
        "optional/content: validation of string-encoded content based on media type"}},
      {kStandIn,
       {"optional/ecmascript-regex: ECMA 262 regex non-compliance"}},
  });
  return listed;
}

struct Figures {
  int groups = 0, groups_passed = 0, listed = 0, tests = 0, tests_passed = 0;
  std::set<std::string> failed;
};

// Why a group does not give the suite's answers; empty when it does.
std::string run_group(const json &group, Figures &figures) {
  const StandInRegex regex;
  const std::vector<Violation> faults = check_schema(group["schema"], regex);
  if (!faults.empty()) return "schema refused: " + faults[0].pointer + " " + faults[0].problem;
  std::string wrong;
  for (const json &test : group["tests"]) {
    ++figures.tests;
    const std::vector<Violation> violations = validate(group["schema"], test["data"], regex);
    if (violations.empty() == test["valid"].get<bool>()) {
      ++figures.tests_passed;
    } else {
      wrong += "\n  wrong: " + test["description"].get<std::string>() + (violations.empty() ? "" : ": " + violations[0].problem);
    }
  }
  return wrong;
}

void run_file(const fs::path &root, const fs::path &file, const Listed &listed, Figures &figures) {
  std::ifstream stream(file);
  std::stringstream text;
  text << stream.rdbuf();
  for (const json &group : parse_json(text.str())) {
    const std::string name = fs::relative(file, root).replace_extension().string() + ": " + group["description"].get<std::string>();
    const std::string wrong = run_group(group, figures);
    const auto entry = listed.find(name);
    ++figures.groups;
    figures.groups_passed += wrong.empty() ? 1 : 0;
    figures.listed += entry != listed.end() ? 1 : 0;
    if (entry == listed.end()) {
      EXPECT_EQ(wrong, "") << name;
    } else {
      EXPECT_NE(wrong, "") << name << " is listed as different (" << entry->second << ") but passes";
    }
  }
}

bool asserted_format(const std::string &name) {
  static const std::set<std::string> names{"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6",
                                           "uri", "uri-reference", "uuid", "json-pointer", "regex"};
  return names.contains(name);
}

TEST(SchemaSuite, AnswersAsTheSuiteDoes) {
  const char *chosen = std::getenv("JSON_SCHEMA_TEST_SUITE");
  const fs::path suite = chosen == nullptr ? "/usr/share/json-schema-test-suite/tests" : chosen;
  const bool current = fs::exists(suite / "draft2020-12");
  const fs::path root = suite / (current ? "draft2020-12" : "draft7");
  if (!fs::exists(root)) GTEST_SKIP() << "no suite in " << suite << ": set JSON_SCHEMA_TEST_SUITE or install json-schema-test-suite";
  Figures figures;
  for (const auto &entry : fs::recursive_directory_iterator(root)) {
    const fs::path &path = entry.path();
    const bool of_format = path.parent_path().filename() == "format";
    if (path.extension() != ".json" || (of_format && !asserted_format(path.stem().string()))) continue;
    run_file(root, path, current ? listed_of_2020_12() : listed_of_draft7(), figures);
  }
  EXPECT_GT(figures.groups, 100);
  std::cout << "[  suite   ] " << root.string() << ": " << figures.groups_passed << " of " << figures.groups << " groups pass, "
            << figures.listed << " are listed as different; of " << figures.tests << " tests run " << figures.tests_passed << " pass\n";
}

}  // namespace
}  // namespace tasker::core
