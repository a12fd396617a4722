// Reads the vectors (files/*.json, made by generate.py) and the tables that they run on.
#ifndef SLUICE_TESTS_VECTORS_VECTOR_FILE_H
#define SLUICE_TESTS_VECTORS_VECTOR_FILE_H

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tests/core/test_tables.h"

namespace sluice {

/// One frame and what is expected of it, or, when `frame` is empty, a change of what it meets.
struct VectorStep {
  uint32_t now_s = 0;
  uint32_t worker = 0;
  Bytes frame;
  std::string verdict;                    // metric name
  uint32_t backend = 0;                   // identifier; 0: none
  Bytes out;                              // empty: nothing leaves
  uint32_t changed_backend = 0;           // 0: the change is of the limit
  std::string changed_state;              // "up", "draining", "down" or "gone"
  uint32_t changed_adoption_lookups = 0;  // left for each worker
};

struct Vector {
  std::string name;  // with the file's, for messages
  std::vector<VectorStep> steps;
};

/// All vectors of all files; aborts with a message if one cannot be read.
std::vector<Vector> load_vectors();

/// The tables of files/tables.json for two workers, each the other's peer. Made anew for each vector.
class VectorTables {
 public:
  VectorTables();
  ~VectorTables();

  /// What a step without a frame says: a snapshot in which a backend has another state, or another limit.
  void change(const VectorStep &step);

  const Tables &worker(uint32_t index) const { return workers_[index]->tables(); }
  TestTables &worker_tables(uint32_t index) const { return *workers_[index]; }

  /// What the workers' tables are made from, for an engine that has its own.
  SnapshotBuilder snapshot() const;

 private:
  void apply_egress();

  std::unique_ptr<nlohmann::json> description_;
  std::map<uint32_t, BackendState> states_;
  std::array<std::unique_ptr<TestTables>, 2> workers_;
};

/// What is wrong with the checksums of a frame that should leave (outer IPv4, inner IPv4, TCP, UDP, ICMP),
/// found without any other part of the project. Empty: nothing.
std::string wrong_checksums(const Bytes &frame);

}  // namespace sluice

#endif
