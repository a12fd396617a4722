#include "controlplane/compile/port_ranges.h"

#include <algorithm>
#include <string>
#include <tuple>

namespace sluice {
namespace {

// Goes through the ports from 0 up, with the spans around the current port on a stack, the smallest on
// top. Spans must come sorted, the containing before the contained.
class Sweep {
 public:
  Status open(const ServiceSpan &next) {
    close_before(next.span.first);
    if (!around_.empty()) {
      const model::PortSpan outer = around_.back().span;
      if (outer == next.span || outer.last < next.span.last) {
        return Error{"ports: " + text(next.span) + " and " + text(outer) +
                     " on one VIP; they must differ, and be apart or one within the other"};
      }
      emit_up_to(next.span.first);
    }
    port_ = next.span.first;
    around_.push_back(next);
    return Done{};
  }

  std::vector<PortRange> finish() {
    close_before(kEndOfPorts);
    return std::move(ranges_);
  }

 private:
  static constexpr uint32_t kEndOfPorts = 65536;

  static std::string text(model::PortSpan span) {
    return std::to_string(span.first) + "-" + std::to_string(span.last);
  }

  void close_before(uint32_t port) {
    while (!around_.empty() && around_.back().span.last < port) {
      emit_up_to(uint32_t{around_.back().span.last} + 1);
      around_.pop_back();
    }
  }

  // Gives the ports from port_ up to `end`, exclusive, to the smallest span around them.
  void emit_up_to(uint32_t end) {
    if (port_ >= end) return;
    const uint32_t service = around_.back().service;
    const auto last = static_cast<uint16_t>(end - 1);
    if (!ranges_.empty() && ranges_.back().service == service && ranges_.back().last_port + 1u == port_) {
      ranges_.back().last_port = last;
    } else {
      ranges_.push_back({static_cast<uint16_t>(port_), last, service});
    }
    port_ = end;
  }

  std::vector<ServiceSpan> around_;
  std::vector<PortRange> ranges_;
  uint32_t port_ = 0;  // ports below it are done
};

}  // namespace

Result<std::vector<PortRange>> flatten_port_spans(std::vector<ServiceSpan> spans) {
  std::ranges::sort(spans, {}, [](const ServiceSpan &span) {
    return std::tuple(span.span.first, -int32_t{span.span.last}, span.service);
  });
  Sweep sweep;
  for (const ServiceSpan &span : spans) {
    if (Status status = sweep.open(span); !status.ok()) return status.error();
  }
  return sweep.finish();
}

}  // namespace sluice
