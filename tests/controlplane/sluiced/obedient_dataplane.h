// A dataplane that takes, refuses or does not store snapshots as a test says, and comes and goes.
#ifndef SLUICE_TESTS_CONTROLPLANE_SLUICED_OBEDIENT_DATAPLANE_H
#define SLUICE_TESTS_CONTROLPLANE_SLUICED_OBEDIENT_DATAPLANE_H

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>

#include <sys/stat.h>

#include "controlplane/model/snapshot_view.h"
#include "controlplane/publish/sealed_memfd.h"
#include "dataplane/server/shared_memory.h"
#include "tests/controlplane/publish/scripted_server.h"

namespace sluice {

class ObedientDataplane {
 public:
  ObedientDataplane() { come(); }

  /// It serves one connection each time that it comes.
  void come() {
    server_ =
        std::make_unique<ScriptedServer>("obedient", ScriptedAnswer{good_hello().dump(), {}},
                                         [this](const nlohmann::json &request, const FileDescriptor &passed) {
                                           return answer(request, passed);
                                         });
  }
  void go() { server_.reset(); }
  bool is_there() const { return server_ != nullptr; }
  std::filesystem::path path() const { return server_->path(); }

  /// Refuses publications with this reason; empty: takes them.
  void refuse(const std::string &reason) { set(&refusal_, reason); }
  /// Refuses snapshots with a backend of this name; empty: none for that.
  void refuse_backend(const std::string &name) { set(&refused_backend_, name); }
  /// Takes publications, but does not store them for this reason; empty: stores them.
  void fail_to_store(const std::string &reason) { set(&warning_, reason); }
  /// Hangs up at the next request instead of answering it.
  void hang_up() { set(&answers_, "no"); }

  /// Does not give its counters, for this reason; empty: gives them.
  void hide_counters(const std::string &reason) { set(&hidden_, reason); }
  int counter_requests() {
    const std::lock_guard lock(mutex_);
    return counter_requests_;
  }

  /// What it counts; of two workers.
  const CounterRegion &counters() const { return counters_; }

  int publications() {
    const std::lock_guard lock(mutex_);
    return publications_;
  }

 private:
  void set(std::string *text, const std::string &value) {
    const std::lock_guard lock(mutex_);
    *text = value;
  }

  ScriptedAnswer answer(const nlohmann::json &request, const FileDescriptor &passed) {
    const std::lock_guard lock(mutex_);
    if (!answers_.empty()) return {};
    nlohmann::json fields = {{"protocol", 1}, {"id", request["id"]}, {"ok", true}};
    ScriptedAnswer answer;
    if (request["request"] == "publish") {
      publications_++;
      if (refusal_.empty() && has_refused_backend(passed)) {
        fields.update({{"ok", false}, {"error", "no room for " + refused_backend_}});
      } else if (refusal_.empty()) {
        take(passed);
      } else {
        fields.update({{"ok", false}, {"error", refusal_}});
      }
    }
    if (request["request"] == "counters") {
      counter_requests_++;
      if (hidden_.empty()) {
        answer.descriptors = {counters_reader_.get()};
      } else {
        fields.update({{"ok", false}, {"error", hidden_}});
      }
    }
    if (request["request"] == "snapshot" && revision_ > 0) answer.descriptors = {in_force_.get()};
    fields.update({{"revision", revision_}, {"stored", warning_.empty()}});
    if (!warning_.empty()) fields["warning"] = warning_;
    answer.text = fields.dump();
    return answer;
  }

  static SnapshotBytes bytes_of(const FileDescriptor &passed) {
    struct stat status {};
    fstat(passed.get(), &status);
    SnapshotBytes bytes(static_cast<size_t>(status.st_size));
    EXPECT_EQ(::pread(passed.get(), bytes.data(), bytes.size(), 0), status.st_size);
    return bytes;
  }

  bool has_refused_backend(const FileDescriptor &passed) const {
    if (refused_backend_.empty()) return false;
    const SnapshotBytes bytes = bytes_of(passed);
    const SnapshotView view = SnapshotView::open(bytes).value();
    return std::ranges::any_of(view.backends(), [&](const Backend &backend) {
      return backend.state != kBackendUnused && view.text(backend.name) == refused_backend_;
    });
  }

  void take(const FileDescriptor &passed) {
    const SnapshotBytes bytes = bytes_of(passed);
    revision_ = reinterpret_cast<const SnapshotHeader *>(bytes.data())->revision;
    in_force_ = make_sealed_memfd(bytes).value();
  }

  std::mutex mutex_;  // guards what follows, but for the server
  std::string refusal_;
  std::string refused_backend_;
  std::string warning_;
  std::string answers_;  // empty: it does
  std::string hidden_;   // why the counters are
  int counter_requests_ = 0;
  uint64_t revision_ = 0;
  FileDescriptor in_force_;
  int publications_ = 0;
  const CounterRegion counters_ = CounterRegion::create({.worker_count = 2}).value();
  const UniqueFd counters_reader_ = counters_.read_only_descriptor().value();
  std::unique_ptr<ScriptedServer> server_;  // last: its thread ends first
};

}  // namespace sluice

#endif
