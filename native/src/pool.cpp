#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace regrain {
namespace {

// One call of parallel_for: threads join it, take tasks until none is left, and leave.
struct Job {
  const std::function<void(std::size_t, unsigned)>& work;
  const std::size_t tasks;
  std::atomic<std::size_t> next{0};
  unsigned open;         // places for further workers
  unsigned joined = 1;   // the caller is worker 0
  unsigned running = 0;  // pool threads inside

  void run(unsigned worker) {
    for (std::size_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) work(task, worker);
  }
};

class Pool {
 public:
  void run(Job& job) {
    {
      std::lock_guard lock(mutex_);
      while (workers_.size() < job.open && start_thread()) {}
      send_elsewhere();
      jobs_.push_back(&job);
    }
    wake_.notify_all();
    job.run(0);
    std::unique_lock lock(mutex_);
    std::erase(jobs_, &job);
    done_.wait(lock, [&] { return job.running == 0; });
  }

 private:
  bool start_thread() {
    try {
      std::thread thread([this] { serve(); });
      workers_.push_back(thread.native_handle());
      thread.detach();  // serves for ever
    } catch (const std::system_error&) {
      return false;  // fewer threads, same result
    }
    return true;
  }

  // Workers may run where the caller may, but not on the processor it is on. Woken by it, they would otherwise often be
  // put there to wait for it: on virtual machines that don't show a shared cache, for milliseconds (decision 7).
  void send_elsewhere() {
#if defined(__linux__)
    cpu_set_t allowed;
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    if (CPU_COUNT(&allowed) > 1) CPU_CLR(here, &allowed);
    if (placed_ == workers_.size() && CPU_EQUAL(&allowed, &placement_)) return;
    for (const std::thread::native_handle_type worker : workers_)
      pthread_setaffinity_np(worker, sizeof allowed, &allowed);  // where it fails, only time is lost
    placement_ = allowed;
    placed_ = workers_.size();
#endif
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      Job* job = nullptr;
      wake_.wait(lock, [&] { return (job = open_job()) != nullptr; });
      --job->open;
      const unsigned worker = job->joined++;
      ++job->running;
      lock.unlock();
      job->run(worker);
      lock.lock();
      if (--job->running == 0) done_.notify_all();
    }
  }

  Job* open_job() {
    for (Job* job : jobs_)
      if (job->open != 0 && job->next.load(std::memory_order_relaxed) < job->tasks) return job;
    return nullptr;
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<Job*> jobs_;
  std::vector<std::thread::native_handle_type> workers_;
#if defined(__linux__)
  cpu_set_t placement_{};   // of the first `placed_` workers
  std::size_t placed_ = 0;
#endif
};

// Never destroyed: its threads may outlive main. A forked child has none of them, so it gets a pool of its own.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  Pool* pool = the_pool.load(std::memory_order_acquire);
  if (pool == nullptr) {
    static std::mutex making;
    std::lock_guard lock(making);
    pool = the_pool.load(std::memory_order_acquire);
    if (pool == nullptr) {
      pool = new Pool;
      the_pool.store(pool, std::memory_order_release);
#if defined(__unix__) || defined(__APPLE__)
      static const int registered = pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr); });
      static_cast<void>(registered);
#endif
    }
  }
  return *pool;
}

}  // namespace

void parallel_for(std::size_t tasks, unsigned threads, const std::function<void(std::size_t, unsigned)>& work) {
  if (threads <= 1 || tasks <= 1) {
    for (std::size_t task = 0; task < tasks; ++task) work(task, 0);
    return;
  }
  const std::size_t useful = tasks < threads ? tasks : threads;
  Job job{work, tasks, {}, static_cast<unsigned>(useful - 1)};
  pool().run(job);
}

}  // namespace regrain
