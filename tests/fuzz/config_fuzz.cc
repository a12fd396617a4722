// Any bytes as sluiced's configuration: never a crash, a hang or both an answer and errors.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "controlplane/compile/compiler.h"
#include "controlplane/config/config_loader.h"
#include "controlplane/config/document_changes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  const sluice::LoadedConfig loaded = sluice::load_config(text, "fuzz");
  if (loaded.ok() != loaded.errors.empty()) std::abort();
  if (!sluice::document_changes(text, text).empty()) std::abort();
  if (!sluice::document_changes("", text).is_array()) std::abort();
  if (!loaded.ok()) return 0;
  // What the loader lets pass must compile.
  sluice::model::Identifiers identifiers;
  if (!identifiers.assign(*loaded.state, 0).ok()) std::abort();
  sluice::Compiler compiler;
  const auto snapshot = compiler.compile({.desired = *loaded.state,
                                          .observed = {},
                                          .identifiers = identifiers,
                                          .flow_hash_key = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}});
  if (!snapshot.ok() || !sluice::SnapshotView::open(snapshot.value().bytes).ok()) std::abort();
  return 0;
}
