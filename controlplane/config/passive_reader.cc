#include "controlplane/config/passive_reader.h"

#include <algorithm>
#include <array>
#include <optional>

namespace sluice {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr uint32_t kMaxConnections = 1'000'000;
constexpr milliseconds kMinWindow = 1s;
constexpr milliseconds kMinEjection = 1s;
constexpr milliseconds kMaxDuration = 24h;

constexpr std::array<std::string_view, 9> kPassiveKeys = {"signals",      "consecutive",     "failure_rate",
                                                          "window",       "min_connections", "ejection",
                                                          "max_ejection", "max_ejected",     "probes"};

class PassiveReader {
 public:
  PassiveReader(const Field &field, FieldReader &reader) : field_(field), reader_(reader) {}

  model::PassiveHealth read() {
    model::PassiveHealth passive;
    if (!reader_.is_map(field_, kPassiveKeys)) return passive;
    if (const auto signals = FieldReader::find(field_, "signals")) read_signals(*signals, &passive);
    read_number("consecutive", 0, kMaxConnections, &passive.consecutive);
    read_number("failure_rate", 0, 100, &passive.failure_rate_percent);
    read_duration("window", kMinWindow, kMaxDuration, &passive.window);
    read_number("min_connections", 1, kMaxConnections, &passive.min_connections);
    read_number("max_ejected", 1, 100, &passive.max_ejected_percent);
    read_number("probes", 1, kMaxConnections, &passive.probes);
    read_ejections(&passive);
    if (passive.consecutive == 0 && passive.failure_rate_percent == 0)
      reader_.error(field_,
                    "has consecutive: 0 and failure_rate: 0, so that nothing is ever ejected; remove one, "
                    "or the whole of passive");
    return passive;
  }

 private:
  template <typename Number>
  void read_number(std::string_view key, uint32_t min, uint32_t max, Number *place) {
    const auto field = FieldReader::find(field_, key);
    if (!field) return;
    if (const auto number = reader_.number(*field, min, max)) *place = static_cast<Number>(*number);
  }

  std::optional<milliseconds> read_duration(std::string_view key, milliseconds min, milliseconds max,
                                            milliseconds *place) {
    const auto field = FieldReader::find(field_, key);
    if (!field) return *place;
    const auto duration = reader_.duration(*field, min, max);
    if (duration) *place = *duration;
    return duration;
  }

  void read_ejections(model::PassiveHealth *passive) {
    const auto ejection = read_duration("ejection", kMinEjection, kMaxDuration, &passive->ejection);
    if (FieldReader::find(field_, "max_ejection")) {
      // Of one that cannot be read nothing follows.
      read_duration("max_ejection", ejection.value_or(kMinEjection), kMaxDuration, &passive->max_ejection);
    } else {
      passive->max_ejection = std::max(passive->max_ejection, passive->ejection);
    }
  }

  void read_signals(const Field &field, model::PassiveHealth *passive) {
    if (!reader_.is_list(field)) return;
    if (field.node->items.empty())
      return reader_.error(field, "names none; allowed: one or more of " + names());
    passive->signals.reset();
    FieldReader::Choices<size_t> choices;
    for (size_t i = 0; i < model::kPassiveSignals; i++)
      choices.emplace_back(model::kPassiveSignalNames[i], i);
    for (size_t i = 0; i < field.node->items.size(); i++) {
      const Field item = field.item(i);
      const auto signal = reader_.choice<size_t>(item, choices);
      if (!signal) continue;
      if (passive->signals[*signal])
        reader_.error(item, in_quotes(item.node->text) + " is there twice; remove one");
      passive->signals.set(*signal);
    }
  }

  static std::string names() {
    std::string text;
    for (const std::string_view name : model::kPassiveSignalNames)
      text.append(text.empty() ? "" : ", ").append(name);
    return text;
  }

  const Field &field_;
  FieldReader &reader_;
};

}  // namespace

model::PassiveHealth read_passive(const Field &field, FieldReader &reader) {
  return PassiveReader(field, reader).read();
}

std::span<const std::string_view> passive_keys() { return kPassiveKeys; }

}  // namespace sluice
