#include "dataplane/server/explain.h"

#include <fmt/format.h>

#include "dataplane/abi/control_protocol.h"
#include "dataplane/server/findings.h"
#include "dataplane/server/snapshot_store.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

int hex_digit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

Result<std::vector<uint8_t>> parse_hex(const std::string &text) {
  if (text.size() % 2 != 0) return Error{fmt::format("frame: {} hex digits are no whole bytes", text.size())};
  if (text.size() / 2 > kExplainMaxFrameSize)
    return Error{fmt::format("frame: {} bytes; its first {} are enough, and its length in \"length\"",
                             text.size() / 2, +kExplainMaxFrameSize)};
  std::vector<uint8_t> bytes;
  bytes.reserve(text.size() / 2);
  for (size_t i = 0; i < text.size(); i += 2) {
    const int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
    if (high < 0 || low < 0) return Error{fmt::format("frame: no hex digits at byte {}", i / 2)};
    bytes.push_back(static_cast<uint8_t>(high << 4 | low));
  }
  return bytes;
}

/// A number that need not be there.
Result<std::optional<uint32_t>> parse_count(const Json &message, const char *field, uint32_t least,
                                            uint32_t most) {
  const auto found = message.find(field);
  if (found == message.end()) return std::optional<uint32_t>();
  if (!found->is_number_unsigned() || found->get<uint64_t>() < least || found->get<uint64_t>() > most)
    return Error{fmt::format("{}: not a number from {} to {}", field, least, most)};
  return std::optional(found->get<uint32_t>());
}

Json answer_without_tables(const ExplainContext &context, const ExplainRequest &request) {
  const VerdictText text = verdict_text(kVerdictPassNoSnapshot);
  return {{"worker", request.worker.value_or(0)},
          {"workers", context.live.workers},
          {"verdict", text.name},
          {"class", text.kind},
          {"service", nullptr},
          {"backend", nullptr},
          {"stages", Json::array({{{"stage", "verdict"}, {"finding", text.name + ": " + text.help}}})}};
}

}  // namespace

Result<ExplainRequest> parse_explain_request(const Json &message) {
  const auto frame = message.find("frame");
  if (frame == message.end() || !frame->is_string()) return Error{"frame: is missing, or no string"};
  Result<std::vector<uint8_t>> bytes = parse_hex(frame->get_ref<const std::string &>());
  if (!bytes.ok()) return bytes.error();
  ExplainRequest request;
  request.frame = std::move(bytes).value();
  const auto given = static_cast<uint32_t>(request.frame.size());
  const auto length = parse_count(message, "length", given, kExplainMaxLength);
  if (!length.ok()) return length.error();
  request.length = length.value().value_or(given);
  const auto worker = parse_count(message, "worker", 0, kMaxConnectionTables - 1);
  if (!worker.ok()) return worker.error();
  request.worker = worker.value();
  return request;
}

Result<Json> explain(const ExplainContext &context, const ExplainRequest &request) {
  const LiveTables &live = context.live;
  if (request.worker && *request.worker >= live.workers)
    return Error{fmt::format("worker: {} is none; there are 0 to {}", *request.worker, live.workers - 1)};
  if (!live.forwarding) return answer_without_tables(context, request);
  const DryRun run = dry_run(live, {request.frame, request.length, request.worker});
  const MappedSnapshot &snapshot = *live.forwarding->snapshot;
  const VerdictText text = verdict_text(run.verdict);
  Json answer = {{"worker", run.worker},
                 {"workers", live.workers},
                 {"verdict", text.name},
                 {"class", text.kind},
                 {"service", nullptr},
                 {"backend", nullptr},
                 {"stages", findings(context, request, run)}};
  if (run.service) answer["service"] = snapshot.string(run.service->name);
  if (run.backend != 0) answer["backend"] = backend_name(snapshot, run.backend);
  return answer;
}

}  // namespace sluice
