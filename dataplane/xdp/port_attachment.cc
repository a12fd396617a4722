#include "dataplane/xdp/port_attachment.h"

#include <utility>

namespace sluice {

Result<PortAttachment> PortAttachment::make(int program_fd, PortSharing sharing,
                                            const AttachmentPlace &place) {
  if (sharing == PortSharing::kAlone) {
    Result<Attachment> attached =
        attach(program_fd, place.interface, place.ifindex, place.mode, place.buffers);
    if (!attached.ok()) return attached.error();
    PortAttachment made(std::move(attached.value().link));
    made.mode_ = attached.value().mode;
    made.reason_ = attached.value().reason;
    return made;
  }
  Result<DispatcherEntry> added = add_entry(program_fd, place);
  if (!added.ok()) return added.error();
  const XdpMode mode = added.value().mode;
  const std::string why_generic = added.value().why_generic;
  PortAttachment made(std::move(added).value());
  made.mode_ = mode;
  made.reason_ = "under libxdp's dispatcher" + (why_generic.empty() ? "" : "; " + why_generic);
  return made;
}

std::optional<PortAttachment> PortAttachment::pinned(const Pins &pins, std::string_view port) {
  UniqueFd link = pins.get(link_pin(port));
  if (link.valid()) return PortAttachment(std::move(link));
  DispatcherEntry entry;
  entry.program = pins.get(entry_pin(port));
  entry.jump = pins.get(jump_pin(port));
  if (!entry.program.valid() || !entry.jump.valid()) return std::nullopt;
  return PortAttachment(std::move(entry));
}

PortSharing PortAttachment::sharing() const {
  return link() != nullptr ? PortSharing::kAlone : PortSharing::kDispatcher;
}

uint32_t PortAttachment::ifindex() const {
  if (link() == nullptr) return interface_of_entry(program());
  const Result<LinkFacts> facts = look_at_link(link()->get());
  return facts.ok() ? facts.value().ifindex : 0;
}

bool PortAttachment::is_taken_off(const std::string &interface, uint32_t ifindex) const {
  if (link() == nullptr) return is_taken_out(program(), interface, ifindex);
  const Result<LinkFacts> facts = look_at_link(link()->get());
  return facts.ok() && facts.value().ifindex == 0;
}

uint32_t PortAttachment::program() const {
  if (link() == nullptr) return program_id(entry().program.get());
  const Result<LinkFacts> facts = look_at_link(link()->get());
  return facts.ok() ? facts.value().program_id : 0;
}

uint32_t PortAttachment::deciding_program() const {
  return link() != nullptr ? program() : program_behind(entry().jump.get());
}

bool PortAttachment::takes(int program_fd) const {
  return link() != nullptr || fits_behind(entry().jump.get(), program_fd);
}

Status PortAttachment::replace(int program_fd) const {
  if (link() != nullptr) return replace_program(link()->get(), program_fd);
  return put_behind(entry().jump.get(), program_fd);
}

Status PortAttachment::detach() const {
  return link() != nullptr ? sluice::detach(link()->get()) : remove_entry(entry());
}

Status PortAttachment::pin(const Pins &pins, std::string_view port) const {
  // What is pinned for the port until now goes only when this is.
  if (link() != nullptr) {
    Status pinned = pins.put(link_pin(port), link()->get());
    if (pinned.ok()) pinned = pins.remove(entry_pin(port));
    return pinned.ok() ? pins.remove(jump_pin(port)) : pinned;
  }
  Status pinned = pins.put(jump_pin(port), entry().jump.get());
  if (pinned.ok()) pinned = pins.put(entry_pin(port), entry().program.get());
  return pinned.ok() ? pins.remove(link_pin(port)) : pinned;
}

Status unpin_port(const Pins &pins, std::string_view port) {
  for (const std::string &name : {link_pin(port), entry_pin(port), jump_pin(port)}) {
    Status removed = pins.remove(name);
    if (!removed.ok()) return removed;
  }
  return Done{};
}

}  // namespace sluice
