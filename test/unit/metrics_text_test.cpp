#include "core/metrics_text.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/error.hpp"

namespace tasker::core {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Metrics one(const std::string &label_value) {
  Metrics out;
  out.declare("m", MetricType::kGauge, "Help");
  out.add("m", {{"l", label_value}}, 1);
  return out;
}

TEST(MetricsText, EscapesBackslashQuoteAndNewlineInLabels) {
  EXPECT_EQ(prometheus_text(one("a\\b\"c\nd")), "# HELP m Help\n# TYPE m gauge\nm{l=\"a\\\\b\\\"c\\nd\"} 1\n");
  EXPECT_EQ(prometheus_text(one("tab\tümlaut{}=,")), "# HELP m Help\n# TYPE m gauge\nm{l=\"tab\tümlaut{}=,\"} 1\n");
}

TEST(MetricsText, EscapesBackslashAndNewlineButNoQuoteInHelp) {
  Metrics metrics;
  metrics.declare("m", MetricType::kCounter, "a\\b\nc \"d\"");
  metrics.add("m", {}, 0);
  EXPECT_EQ(prometheus_text(metrics), "# HELP m a\\\\b\\nc \"d\"\n# TYPE m counter\nm 0\n");
}

TEST(MetricsText, ValuesAreThoseOfTheFormat) {
  EXPECT_EQ(metric_value(std::numeric_limits<double>::quiet_NaN()), "NaN");
  EXPECT_EQ(metric_value(kInfinity), "+Inf");
  EXPECT_EQ(metric_value(-kInfinity), "-Inf");
  EXPECT_EQ(metric_value(0), "0");
  EXPECT_EQ(metric_value(-3), "-3");
  EXPECT_EQ(metric_value(0.25), "0.25");
  EXPECT_EQ(metric_value(1234567890123), "1234567890123");
  EXPECT_EQ(metric_value(1e300), "1e+300");
  for (const double value : {0.1, 1.0 / 3, 1e-9, 9007199254740993.0, 123456.789}) EXPECT_EQ(std::stod(metric_value(value)), value);
}

TEST(MetricsText, FamiliesAreInOrderAndWholeHoweverTheyWereFilled) {
  Metrics metrics;
  metrics.declare("zebra", MetricType::kGauge, "Z");
  metrics.declare("ant", MetricType::kCounter, "A");
  metrics.declare("nothing", MetricType::kGauge, "N");
  metrics.add("zebra", {{"n", "1"}}, 1);
  metrics.add("ant", {{"n", "1"}}, 2);
  metrics.declare("zebra", MetricType::kGauge, "Z");
  metrics.add("zebra", {{"n", "2"}, {"empty", ""}}, 3);
  EXPECT_EQ(prometheus_text(metrics), "# HELP ant A\n# TYPE ant counter\nant{n=\"1\"} 2\n# HELP zebra Z\n# TYPE zebra gauge\nzebra{n=\"1\"} 1\nzebra{n=\"2\"} 3\n");
}

TEST(MetricsText, WrongNamesAndTypesAreFaults) {
  Metrics metrics;
  for (const char *name : {"", "1m", "a-b", "a b", "a:b", "ä"}) EXPECT_THROW(metrics.declare(name, MetricType::kGauge, ""), Error) << name;
  metrics.declare("m", MetricType::kGauge, "");
  EXPECT_THROW(metrics.declare("m", MetricType::kCounter, ""), Error);
  EXPECT_THROW(metrics.add("other", {}, 1), Error);
  EXPECT_THROW(metrics.add("m", {{"a-b", "x"}}, 1), Error);
  EXPECT_THROW(metrics.add("m", {{"a", "x"}, {"a", "y"}}, 1), Error);
  EXPECT_THROW(metrics.add_durations("other", {}, {}), Error);
}

// Durations of all sizes: what each bucket counts is what is at most its bound, and nothing gets lost.
TEST(MetricsText, HistogramsAreCumulativeAndExact) {
  Durations durations;
  std::vector<double> all;
  for (double ms = 0.011; ms < 4e8; ms *= 1.37) {
    all.push_back(ms);
    durations.add(ms);
  }
  Metrics metrics;
  metrics.declare("d_seconds", MetricType::kHistogram, "D");
  metrics.add_durations("d_seconds", {{"namespace", "x"}}, durations);
  const std::vector<MetricSample> &samples = metrics.families().at("d_seconds").samples;
  ASSERT_EQ(samples.size(), static_cast<std::size_t>(kLastBound - kFirstBound + 1 + 3));
  double before = 0, bound_before = 0;
  for (std::size_t i = 0; i + 2 < samples.size(); i++) {
    ASSERT_EQ(samples[i].name, "d_seconds_bucket");
    ASSERT_EQ(samples[i].labels.size(), 2u);
    ASSERT_EQ(samples[i].labels[1].first, "le");
    const std::string &le = samples[i].labels[1].second;
    const double bound = le == "+Inf" ? kInfinity : std::stod(le);
    EXPECT_GT(bound, bound_before);
    EXPECT_GE(samples[i].value, before);
    EXPECT_EQ(samples[i].value, static_cast<double>(std::count_if(all.begin(), all.end(), [&](double ms) { return ms / 1000 <= bound; }))) << le;
    before = samples[i].value;
    bound_before = bound;
  }
  EXPECT_EQ(bound_before, kInfinity);
  EXPECT_EQ(before, static_cast<double>(all.size()));
  EXPECT_EQ(samples[samples.size() - 2].name, "d_seconds_sum");
  EXPECT_NEAR(samples[samples.size() - 2].value, durations.total_ms / 1000, 1e-6);
  EXPECT_EQ(samples.back().name, "d_seconds_count");
  EXPECT_EQ(samples.back().value, before);
  EXPECT_EQ(samples[0].labels[1].second, "0.0008");
  EXPECT_EQ(samples[10].labels[1].second, "0.8192");
  EXPECT_EQ(samples[samples.size() - 4].labels[1].second, "13421.7728");
}

TEST(MetricsText, HistogramsWithoutADurationAreZeros) {
  Metrics metrics;
  metrics.declare("d_seconds", MetricType::kHistogram, "D");
  metrics.add_durations("d_seconds", {}, {});
  for (const MetricSample &sample : metrics.families().at("d_seconds").samples) EXPECT_EQ(sample.value, 0) << sample.name;
  EXPECT_NE(prometheus_text(metrics).find("# TYPE d_seconds histogram\nd_seconds_bucket{le=\"0.0008\"} 0\n"), std::string::npos);
}

TEST(MetricsText, JsonHasARowForEachSample) {
  Metrics metrics;
  metrics.declare("b", MetricType::kCounter, "B");
  metrics.declare("a", MetricType::kGauge, "A");
  metrics.add("b", {{"x", "1\n"}, {"y", ""}}, 2.5);
  metrics.add("a", {}, kInfinity);
  EXPECT_EQ(metrics_array(metrics).dump(),
            R"([{"help":"A","labels":{},"name":"a","type":"gauge","value":null},{"help":"B","labels":{"x":"1\n"},"name":"b","type":"counter","value":2.5}])");
}

TEST(MetricsText, CsvQuotesWhatNeedsIt) {
  Metrics metrics;
  metrics.declare("b", MetricType::kCounter, "B");
  metrics.declare("a", MetricType::kGauge, "A");
  metrics.add("b", {{"x", "comma,"}, {"w", "quote\""}}, 2);
  metrics.add("b", {{"x", "line\nline"}}, kInfinity);
  metrics.add("a", {{"v", "plain"}}, 0.5);
  EXPECT_EQ(metrics_csv(metrics, "2026-03-12T09:30:00Z"),
            "timestamp,name,type,value,label_v,label_w,label_x\n"
            "2026-03-12T09:30:00Z,a,gauge,0.5,plain,,\n"
            "2026-03-12T09:30:00Z,b,counter,2,,\"quote\"\"\",\"comma,\"\n"
            "2026-03-12T09:30:00Z,b,counter,+Inf,,,\"line\nline\"\n");
}

}  // namespace
}  // namespace tasker::core
