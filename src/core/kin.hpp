// Under which numbers the runs of a step are remembered, and whose runs speak for it while it has few of its own.
//
// What may share a transaction is learnt per named step. A definition of thousands of steps, though, runs each of them once a
// task: by themselves they would not be known for long, and they would push everything else out of a memory of fixed size.
// Steps of one definition that do the same work are therefore kin, where they are many: what is measured of any of them
// speaks for each that has too few runs of its own. Where they are very many, nothing is kept of each.
#pragma once

#include <string>
#include <vector>

namespace tasker::core {

inline constexpr int kKinFrom = 16;     // steps of the same work; fewer learn soon enough by themselves
inline constexpr int kKinOnly = 256;    // more: what one of them does is remembered of all of them only

struct Learner {
  int own = 0;  // the step's number, or its kin's
  int kin = 0;  // minus the number of the first step of its kin; 0: it has none, or `own` is it
};

// Of the steps 1, 2, ... of a definition. `work`: a text for each that is the same where the work is, empty where none is measured.
std::vector<Learner> learners(const std::vector<std::string> &work);

}  // namespace tasker::core
