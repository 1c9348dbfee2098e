#include "core/template.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "core/error.hpp"

namespace tasker::core {
namespace {

using namespace std::string_literals;

const json &document() {
  static const json value = parse_json(R"({
    "task_id": 7, "step_name": "load", "attempt": 2, "correlation_id": "c-1", "idempotency_key": "k/1", "config": {},
    "context": {"id": 42, "name": "Zoë & Söhne/2", "empty": "", "nothing": null, "flag": true, "price": 19.5, "list": [10, {"deep": "x"}],
                "a/b": {"m~n": "slash and tilde"}, "": "no name", "two lines": "a\r\nX-Evil: 1", "tab": "a\tb", "quote": "\"}, \"admin\": true, \"x\": \"",
                "up": "..", "dot": ".", "climb": "../../admin", "back": "..\\..\\admin", "big": 9007199254740993}, "results": {"price": {"total": 3}}})");
  return value;
}

std::string text(std::string_view source, Landing landing = Landing::kText) { return Template(source).text(document(), landing); }
json value(std::string_view source) { return Template(source).value(document()); }

template <typename Action>
std::string fault_of(const Action &action, std::string_view sqlstate = "22023") {
  try {
    action();
  } catch (const Error &error) {
    EXPECT_EQ(error.sqlstate(), sqlstate);
    EXPECT_NO_THROW(json(error.message() + error.detail()).dump());
    return error.message() + (error.detail().empty() ? "" : " | " + error.detail()) + (error.hint().empty() ? "" : " | " + error.hint());
  }
  return {};
}

std::string render_fault(const std::string &source, Landing landing = Landing::kText) {
  return fault_of([&] { text(source, landing); });
}

TEST(Template, OnePlaceholderKeepsTheType) {
  EXPECT_EQ(value("${/context/id}"), 42);
  EXPECT_EQ(value("${/context/flag}"), true);
  EXPECT_EQ(value("${/context/nothing}"), nullptr);
  EXPECT_EQ(value("${/context/list}"), parse_json(R"([10, {"deep": "x"}])"));
  EXPECT_EQ(value("${/results/price}"), parse_json(R"({"total": 3})"));
  EXPECT_EQ(value("${/context}"), document()["context"]);
  EXPECT_EQ(value("${/context/big}").dump(), "9007199254740993");
}

TEST(Template, InsideTextItIsText) {
  EXPECT_EQ(value("order ${/context/id}"), "order 42");
  EXPECT_EQ(text("${/context/id}${/context/flag}"), "42true");
  EXPECT_EQ(text("[${/context/nothing}]"), "[]");
  EXPECT_EQ(text("${/context/name}: ${/context/price}"), "Zoë & Söhne/2: 19.5");
  EXPECT_EQ(text("list ${/context/list}"), R"(list [10,{"deep":"x"}])");
  EXPECT_EQ(text(""), "");
  EXPECT_EQ(text("no placeholder"), "no placeholder");
}

TEST(Template, PointersFollowRfc6901) {
  EXPECT_EQ(value("${/context/list/0}"), 10);
  EXPECT_EQ(value("${/context/list/1/deep}"), "x");
  EXPECT_EQ(value("${/context/a~1b/m~0n}"), "slash and tilde");
  EXPECT_EQ(value("${/context/}"), "no name");
  for (const char *missing : {"/context/list/2", "/context/list/00", "/context/list/01", "/context/list/-", "/context/list/+1", "/context/list/1x", "/context/list/",
                              "/context/list/99999999999999999999999", "/context/nobody", "/context/id/x", "/results/price/total/x", "/results/other"}) {
    EXPECT_NE(render_fault("${"s + missing + "}").find("template has no value at "s + missing), std::string::npos) << missing;
  }
}

TEST(Template, SaysWhatIsMissing) {
  EXPECT_EQ(render_fault("x ${/context/nobody/home}"), "template has no value at /context/nobody/home | The value at /context has no member \"nobody\".");
  EXPECT_EQ(render_fault("${/context/id/x}"), "template has no value at /context/id/x | The value at /context/id is neither an object nor an array.");
  EXPECT_EQ(render_fault("${/context/list/7}"), "template has no value at /context/list/7 | The value at /context/list is an array of 2 elements.");
  EXPECT_EQ(render_fault("${/results/other/x}"),
            "template has no value at /results/other/x | The value at /results has no member \"other\". | "
            "A step reads the results of the steps that its depends_on names.");
}

TEST(Template, DollarBraceCanBeWritten) {
  EXPECT_EQ(text("$${HOME}"), "${HOME}");
  EXPECT_EQ(text("$${/context/id} is ${/context/id}"), "${/context/id} is 42");
  EXPECT_EQ(text("$ $x {y} $$ }"), "$ $x {y} $$ }");
  EXPECT_EQ(text("$$${a"), "$${a");
  EXPECT_EQ(text("100$"), "100$");
  EXPECT_TRUE(Template("$${HOME}").constant());
  EXPECT_FALSE(Template("${/context}").constant());
}

TEST(Template, FaultsAreToldAtDefinition) {
  const auto fault = [](std::string_view source) {
    const std::vector<Fault> faults = check_template(source, "/handler/path");
    if (faults.empty()) return std::string();
    EXPECT_EQ(faults.size(), 1U);
    EXPECT_EQ(faults[0].pointer, "/handler/path");
    EXPECT_NE(fault_of([&] { Template parsed(source); }), "");
    return faults[0].problem + " | " + faults[0].hint;
  };
  EXPECT_EQ(fault("/x/${/context/id}/${/results/a}"), "");
  EXPECT_EQ(fault("a ${/context/id"), "template has a placeholder without an end: \"${/context/id\" | write ${/json/pointer}, or $${ for a literal ${");
  EXPECT_EQ(fault("${context.id}"),
            "template has a placeholder that is no JSON pointer: \"${context.id}\" | a pointer starts with \"/\", for example ${/context/order_id}; "
            "write $${ for a literal ${");
  EXPECT_NE(fault("${}"), "");
  EXPECT_NE(fault("${ /context}"), "");
  EXPECT_EQ(fault("${/context/a~2b}"),
            "template has a placeholder with a \"~\" that is neither ~0 nor ~1: \"${/context/a~2b}\" | in a JSON pointer ~0 stands for \"~\" and ~1 for \"/\"");
  EXPECT_NE(fault("${/context/a~}"), "");
  EXPECT_EQ(fault("${/contxt/id}"), "template refers to \"contxt\", which no document has | did you mean \"context\"?");
  EXPECT_NE(fault("${/}"), "");
  EXPECT_NE(fault("${/password}").find("the document has \"task_id\""), std::string::npos);

  const json body = parse_json(R"({"a/b": ["ok", "${x}"], "c": {"d": "${/context/"}, "n": 1})");
  const std::vector<Fault> faults = check_templates(body, "/handler/body");
  ASSERT_EQ(faults.size(), 2U);
  EXPECT_EQ(faults[0].pointer, "/handler/body/a~1b/1");
  EXPECT_EQ(faults[1].pointer, "/handler/body/c/d");
}

TEST(Template, TellsWhatItReads) {
  const auto read = Template("/a/${/results/s1/x}/${/context/a~1b}").references();
  EXPECT_EQ(read, (std::vector<std::vector<std::string>>{{"results", "s1", "x"}, {"context", "a/b"}}));
  const auto deep = JsonTemplate(parse_json(R"({"a": ["${/results/s2}", {"b": "${/task_id}"}], "c": "none"})")).references();
  EXPECT_EQ(deep, (std::vector<std::vector<std::string>>{{"results", "s2"}, {"task_id"}}));
}

TEST(Template, PathValuesStayOneSegment) {
  EXPECT_EQ(text("/u/${/context/name}/o", Landing::kPath), "/u/Zo%C3%AB%20%26%20S%C3%B6hne%2F2/o");
  EXPECT_EQ(text("/u/${/context/id}", Landing::kPath), "/u/42");
  EXPECT_EQ(text("/u/v${/context/dot}${/context/id}", Landing::kPath), "/u/v.42");
  EXPECT_EQ(text("/u/a/../b", Landing::kPath), "/u/a/../b") << "the author's own text is checked where URLs are";
  for (const char *source : {"/u/${/context/up}", "/u/${/context/up}/x", "/u/${/context/dot}/x", "/u/.${/context/dot}", "/u/%2e${/context/dot}/x",
                             "/u/${/context/dot}${/context/dot}", "/u/${/context/climb}", "/u/${/context/back}", "/u/x/${/context/climb}/y"}) {
    EXPECT_NE(render_fault(source, Landing::kPath).find("which would lead elsewhere"), std::string::npos) << source;
  }
  for (const char *source : {"/u/${/context/empty}", "/u/${/context/nothing}", "/u/${/context/empty}/orders", "/u/${/context/empty}${/context/nothing}/o"}) {
    EXPECT_NE(render_fault(source, Landing::kPath).find("leaves a segment of the path empty"), std::string::npos) << source;
  }
  EXPECT_EQ(text("/u/a${/context/empty}/x//y", Landing::kPath), "/u/a/x//y");
}

TEST(Template, HeaderValuesStayOneLine) {
  EXPECT_EQ(text("id ${/context/tab}", Landing::kHeader), "id a\tb");
  EXPECT_EQ(text("${/context/name}", Landing::kHeader), "Zoë & Söhne/2");
  EXPECT_EQ(render_fault("x ${/context/two lines}", Landing::kHeader), "value of ${/context/two lines} has a control character, which a header can't carry");
  const json evil = {{"context", {{"v", ""}}}};
  for (int c = 0; c < 0x80; ++c) {
    json changed = evil;
    changed["context"]["v"] = std::string("a") + static_cast<char>(c) + "b";
    const bool refused = !fault_of([&] { Template("${/context/v}").text(changed, Landing::kHeader); }).empty();
    EXPECT_EQ(refused, (c < 0x20 && c != '\t') || c == 0x7F) << c;
  }
}

TEST(Template, JsonStringsStayThatString) {
  const JsonTemplate body(parse_json(R"({"greeting": "Hello ${/context/quote}", "raw": "${/context/quote}", "n": "${/context/id}", "all": ["${/context/list}", null]})"));
  const json rendered = parse_json(body.render(document()).dump());
  EXPECT_EQ(rendered["greeting"], "Hello \"}, \"admin\": true, \"x\": \"");
  EXPECT_EQ(rendered["raw"], document()["context"]["quote"]);
  EXPECT_EQ(rendered["n"], 42);
  EXPECT_EQ(rendered["all"], parse_json(R"([[10, {"deep": "x"}], null])"));
  EXPECT_EQ(rendered.size(), 4U);
  EXPECT_EQ(JsonTemplate("$${x}").render(nullptr), "${x}");
  EXPECT_EQ(JsonTemplate(parse_json(R"([{"a": "$${x}"}, [], {}, 1])")).render(nullptr), parse_json(R"([{"a": "${x}"}, [], {}, 1])"));
  EXPECT_EQ(JsonTemplate(parse_json(R"({"${/context/id}": 1})")).render(document()), parse_json(R"({"${/context/id}": 1})")) << "names are plain text";
  EXPECT_NE(fault_of([&] { JsonTemplate(parse_json(R"({"a": "${/context/gone}"})")).render(document()); }), "");
}

TEST(Template, SizeIsLimited) {
  const json large = {{"context", {{"v", std::string(1 << 20, 'x')}}}};
  std::string many;
  for (int i = 0; i < 20; ++i) many += "${/context/v}";
  EXPECT_NE(fault_of([&] { Template(many).text(large, Landing::kText); }, "54000").find("renders more than"), std::string::npos);
  json body = json::array();
  for (int i = 0; i < 20; ++i) body.push_back("${/context}");
  EXPECT_NE(fault_of([&] { JsonTemplate(body).render(large); }, "54000").find("renders more than"), std::string::npos);
  json few = json::array();
  for (int i = 0; i < 10; ++i) few.push_back("${/context}");
  EXPECT_EQ(JsonTemplate(few).render(large).size(), 10U);
}

TEST(Template, PercentCoding) {
  EXPECT_EQ(percent_encode("aZ09-._~"), "aZ09-._~");
  EXPECT_EQ(percent_encode("a b/?#%&=+\"\\\xff\0"s), "a%20b%2F%3F%23%25%26%3D%2B%22%5C%FF%00");
  EXPECT_EQ(percent_decode("%2e%2E%zz%4"), "..%zz%4");
  EXPECT_EQ(percent_decode("%"), "%");
}

// Whatever the value, what is rendered can be read back by the rules of its place, and gives the value.
TEST(Template, NothingBreaksOut) {
  std::mt19937 random(20240601);
  const std::string plain = "/\\.%2eE\"'{}$#?&=;:@,+ \r\n\t\v\x01\x7f<>[]|^`aZ0";
  std::vector<std::string> alphabet = {"é", "€", "..", "../", "\r\n"};
  for (const char c : plain) alphabet.emplace_back(1, c);
  const Template path("/a/${/context/v}/z"), query("${/context/v}"), header("v=${/context/v}");
  const JsonTemplate body(parse_json(R"({"k": "pre ${/context/v} post", "last": 1})"));
  int refused_paths = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string v;
    for (std::size_t count = random() % 10; count > 0; --count) v += alphabet[random() % alphabet.size()];
    const json doc = {{"context", {{"v", v}}}};

    std::string rendered;
    if (fault_of([&] { rendered = path.text(doc, Landing::kPath); }).empty()) {
      ASSERT_EQ(std::count(rendered.begin(), rendered.end(), '/'), 3) << rendered;
      ASSERT_EQ(rendered.find_first_of("?#\\@ \r\n"), std::string::npos) << rendered;
      const std::string segment = rendered.substr(3, rendered.size() - 5);
      ASSERT_EQ(percent_decode(segment), v);
      ASSERT_TRUE(segment != "." && segment != ".." && !segment.empty());
    } else {
      ++refused_paths;
    }

    rendered = query.text(doc, Landing::kQuery);
    ASSERT_EQ(rendered.find_first_of("&=#+?; "), std::string::npos) << rendered;
    ASSERT_EQ(percent_decode(rendered), v);

    rendered.clear();
    if (fault_of([&] { rendered = header.text(doc, Landing::kHeader); }).empty()) {
      ASSERT_EQ(rendered, "v=" + v);
      ASSERT_EQ(rendered.find_first_of("\r\n\0"s), std::string::npos);
    } else {
      ASSERT_NE(v.find_first_of("\r\n\v\x01\x7f"s), std::string::npos) << v;
    }

    const json tree = body.render(doc);
    ASSERT_EQ(tree.size(), 2U);
    ASSERT_EQ(tree["k"], "pre " + v + " post");
  }
  EXPECT_GT(refused_paths, 500);
}

// Whatever the text, parsing either tells a fault or gives a template that renders or names what is missing.
TEST(Template, AnyTextIsReadOrRefused) {
  std::mt19937 random(42);
  const std::string_view pieces[] = {"${", "$${", "}", "$", "{", "/context", "/", "~0", "~1", "~", "/id", "x", "/list/0", "/results", "\xc3\xa9", "/name"};
  int rendered = 0, refused = 0;
  for (int round = 0; round < 50'000; ++round) {
    std::string source;
    for (std::size_t count = random() % 8; count > 0; --count) source += pieces[random() % std::size(pieces)];
    if (!check_template(source).empty()) {
      ++refused;
      continue;
    }
    const Template parsed(source);
    const std::string fault = fault_of([&] { parsed.text(document(), Landing::kText); });
    if (fault.empty()) ++rendered;
    if (parsed.constant()) {
      ASSERT_EQ(fault, "") << source;
    }
  }
  EXPECT_GT(rendered, 1000);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace tasker::core
