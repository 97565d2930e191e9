// One lazy pool of threads for the process. They sleep when there is nothing to do; after a fork the child starts anew.
#pragma once

#include <cstddef>
#include <functional>

namespace regrain {

// Calls work(task, worker) once for every task below `tasks`, on at most `threads` threads, the caller's among them.
// `worker` is below `threads` and names the thread within this call. Returns when all are done. `work` must not throw.
void parallel_for(std::size_t tasks, unsigned threads, const std::function<void(std::size_t, unsigned)>& work);

}  // namespace regrain
