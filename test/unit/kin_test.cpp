#include "core/kin.hpp"

#include <gtest/gtest.h>

namespace tasker::core {
namespace {

std::vector<std::string> steps(int same, const std::string &work, int others = 0) {
  std::vector<std::string> out;
  for (int i = 0; i < others; i++) out.push_back("other " + std::to_string(i));
  out.insert(out.end(), static_cast<std::size_t>(same), work);
  return out;
}

TEST(Kin, FewStepsLearnByThemselves) {
  const auto found = learners(steps(kKinFrom - 1, "f", 2));
  for (std::size_t i = 0; i < found.size(); i++) {
    EXPECT_EQ(found[i].own, static_cast<int>(i) + 1);
    EXPECT_EQ(found[i].kin, 0);
  }
}

TEST(Kin, ManyStepsAlsoHaveTheirKin) {
  const auto found = learners(steps(kKinFrom, "f", 3));
  EXPECT_EQ(found[0].kin, 0);
  for (std::size_t i = 3; i < found.size(); i++) {
    EXPECT_EQ(found[i].own, static_cast<int>(i) + 1);
    EXPECT_EQ(found[i].kin, -4);
  }
}

TEST(Kin, VeryManyAreOne) {
  EXPECT_EQ(learners(steps(kKinOnly, "f")).back().own, kKinOnly);
  const auto found = learners(steps(kKinOnly + 1, "f", 1));
  EXPECT_EQ(found[0].own, 1);
  for (std::size_t i = 1; i < found.size(); i++) {
    EXPECT_EQ(found[i].own, -2);
    EXPECT_EQ(found[i].kin, 0);
  }
}

TEST(Kin, DifferentWorkIsNotKin) {
  std::vector<std::string> work = steps(kKinFrom, "f");
  const std::vector<std::string> g = steps(kKinFrom, "g");
  work.insert(work.end(), g.begin(), g.end());
  const auto found = learners(work);
  EXPECT_EQ(found.front().kin, -1);
  EXPECT_EQ(found.back().kin, -kKinFrom - 1);
}

TEST(Kin, WhatIsNotMeasuredHasNone) {
  for (const Learner &each : learners(steps(2 * kKinOnly, ""))) EXPECT_EQ(each.kin, 0);
  EXPECT_EQ(learners(steps(2 * kKinOnly, "")).back().own, 2 * kKinOnly);
  EXPECT_TRUE(learners({}).empty());
}

}  // namespace
}  // namespace tasker::core
