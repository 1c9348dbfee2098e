#include "core/kin.hpp"

#include <string_view>
#include <unordered_map>

namespace tasker::core {

std::vector<Learner> learners(const std::vector<std::string> &work) {
  struct Kin {
    int first, count;
  };
  std::unordered_map<std::string_view, Kin> kin;
  for (std::size_t i = 0; i < work.size(); i++) kin.try_emplace(work[i], Kin{static_cast<int>(i) + 1, 0}).first->second.count++;
  std::vector<Learner> out(work.size());
  for (std::size_t i = 0; i < work.size(); i++) {
    const Kin &mine = kin.at(work[i]);
    out[i].own = static_cast<int>(i) + 1;
    if (work[i].empty() || mine.count < kKinFrom) continue;
    if (mine.count > kKinOnly) out[i].own = -mine.first;
    else out[i].kin = -mine.first;
  }
  return out;
}

}  // namespace tasker::core
