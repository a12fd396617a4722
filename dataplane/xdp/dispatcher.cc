#include "dataplane/xdp/dispatcher.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <net/if.h>
#include <xdp/libxdp.h>

#include "bpf/shared_entry.skel.h"
#include "dataplane/libxdp_handles.h"
#include "dataplane/xdp/libbpf_log.h"

namespace sluice {
namespace {

constexpr std::string_view kDispatcherName = "xdp_dispatcher";
constexpr const char *kEntryName = "sluice_entry";
constexpr std::string_view kJumpName = "sluice_jump";
constexpr uint32_t kJumpElement = 0;
constexpr uint32_t kTrialElement = 1;

std::string error_text(long error) { return std::strerror(static_cast<int>(std::abs(error))); }  // NOLINT

struct ProgramDeleter {
  void operator()(xdp_program *program) const { xdp_program__close(program); }
};
using Program = std::unique_ptr<xdp_program, ProgramDeleter>;

struct EntryObjectDeleter {
  void operator()(shared_entry *object) const { shared_entry::destroy(object); }
};
using EntryObject = std::unique_ptr<shared_entry, EntryObjectDeleter>;

EntryObject open_entry_object() {
  listen_to_libbpf();
  return EntryObject(shared_entry::open());
}

xdp_attach_mode libxdp_mode(XdpMode mode) {
  return mode == XdpMode::kNative ? XDP_MODE_NATIVE : XDP_MODE_SKB;
}

/// The programs on an interface, or why libxdp cannot tell them; null: none.
Result<Multiprog> open_programs(uint32_t ifindex) {
  const QuietLibxdp quiet;
  xdp_multiprog *programs = xdp_multiprog__get_from_ifindex(static_cast<int>(ifindex));
  const long error = libxdp_get_error(programs);
  if (error == -ENOENT) return Multiprog();
  if (error != 0) return Error{error_text(error)};
  return Multiprog(programs);
}

/// Makes the dispatcher, or adds to the one that is there. Returns 0 or an errno.
int attach_entry(const shared_entry &object, const AttachmentPlace &place, XdpMode mode,
                 UniqueFd *program_fd) {
  const QuietLibxdp quiet;
  DECLARE_LIBXDP_OPTS(xdp_program_opts, options, .obj = object.obj, .prog_name = kEntryName);
  xdp_program *created = xdp_program__create(&options);
  long error = libxdp_get_error(created);
  if (error != 0) return static_cast<int>(-error);
  const Program program(created);
  error = xdp_program__set_xdp_frags_support(created, place.buffers == FrameBuffers::kSeveral);
  if (error == 0) error = xdp_program__attach(created, static_cast<int>(place.ifindex), libxdp_mode(mode), 0);
  if (error != 0) return static_cast<int>(-error);
  program_fd->reset(::fcntl(xdp_program__fd(created), F_DUPFD_CLOEXEC, 0));
  return program_fd->valid() ? 0 : errno;
}

/// Takes a program out of the dispatcher of an interface.
Status take_out(uint32_t program_id, uint32_t ifindex) {
  const QuietLibxdp quiet;
  xdp_program *found = xdp_program__from_id(program_id);
  long error = libxdp_get_error(found);
  if (error == 0) {
    const Program program(found);
    error = xdp_program__detach(found, static_cast<int>(ifindex), XDP_MODE_UNSPEC, 0);
  }
  if (error == 0) return Done{};
  return Error{fmt::format("program {} cannot be taken out of libxdp's dispatcher on interface {}: {}",
                           program_id, ifindex, error_text(error))};
}

bool calls(const Dispatcher &dispatcher, uint32_t program) {
  return std::any_of(dispatcher.programs.begin(), dispatcher.programs.end(),
                     [program](const DispatchedProgram &called) { return called.id == program; });
}

/// Those that libxdp can tell, by the interface of this network namespace.
std::vector<std::pair<uint32_t, Dispatcher>> dispatchers() {
  std::vector<std::pair<uint32_t, Dispatcher>> found;
  struct if_nameindex *interfaces = ::if_nameindex();
  for (struct if_nameindex *one = interfaces; one != nullptr && one->if_index != 0; one++) {
    Result<std::optional<Dispatcher>> there = dispatcher_on(one->if_name, one->if_index);
    if (there.ok() && there.value()) found.emplace_back(one->if_index, std::move(*there.value()));
  }
  if (interfaces != nullptr) ::if_freenameindex(interfaces);
  return found;
}

/// Whether it is an entry of an engine, and jumps to nothing. What cannot be told is no.
bool is_dead_entry(const DispatchedProgram &program) {
  if (program.name != kEntryName) return false;
  const UniqueFd fd(bpf_prog_get_fd_by_id(program.id));
  const UniqueFd jump = map_of_program(fd.get(), kJumpName);
  uint32_t id = 0;
  return jump.valid() && bpf_map_lookup_elem(jump.get(), &kJumpElement, &id) != 0 && errno == ENOENT;
}

/// `cannot` becomes 0, or libxdp's errno.
Result<DispatcherEntry> try_to_add(int program_fd, const AttachmentPlace &place, XdpMode mode, int *cannot) {
  const EntryObject object = open_entry_object();
  if (!object) return Error{fmt::format("interface {}: the entry: {}", place.interface, error_text(errno))};
  DispatcherEntry entry;
  entry.mode = mode;
  *cannot = attach_entry(*object, place, mode, &entry.program);
  if (*cannot != 0)
    return Error{fmt::format("interface {}: libxdp's dispatcher does not take the program, {} ({}): {}",
                             place.interface, mode_text(mode), driver_facts(place.interface, place.buffers),
                             error_text(*cannot))};
  entry.jump.reset(::fcntl(bpf_map__fd(object->maps.sluice_jump), F_DUPFD_CLOEXEC, 0));
  if (!entry.jump.valid()) return Error{fmt::format("interface {}: {}", place.interface, error_text(errno))};
  Status aimed = put_behind(entry.jump.get(), program_fd);
  // Without a dispatcher libxdp puts a program on the interface by itself, where it cannot be found again.
  const Result<std::optional<Dispatcher>> there = dispatcher_on(place.interface, place.ifindex);
  if (aimed.ok() && (!there.ok() || !there.value()))
    aimed = Error{fmt::format("interface {}: libxdp made no dispatcher", place.interface)};
  if (aimed.ok()) return entry;
  if (there.ok() && !there.value()) (void)bpf_xdp_detach(static_cast<int>(place.ifindex), 0, nullptr);
  (void)remove_entry(entry).ok();
  return aimed.error();
}

/// Has the dispatcher call its first function, as it does for a program: the kernel drops others unseen.
void enable_first_function(bpf_object *object) {
  const btf *types = bpf_object__btf(object);
  const int32_t id = btf__find_by_name_kind(types, "xdp_dispatcher_config", BTF_KIND_STRUCT);
  const btf_type *config = id > 0 ? btf__type_by_id(types, static_cast<uint32_t>(id)) : nullptr;
  for (uint16_t i = 0; config != nullptr && i < btf_vlen(config); i++) {
    const std::string_view name = btf__name_by_offset(types, btf_members(config)[i].name_off);
    if (name != "num_progs_enabled") continue;
    bpf_map *map = nullptr;
    bpf_object__for_each_map(map, object) {
      size_t size = 0;
      auto *bytes = static_cast<uint8_t *>(const_cast<void *>(bpf_map__initial_value(map, &size)));
      const uint32_t offset = btf_member_bit_offset(config, i) / 8;
      if (bytes != nullptr && offset < size) bytes[offset] = 1;
    }
  }
}

/// Returns 0 or an errno.
int load_dispatcher(bpf_object *object) {
  enable_first_function(object);
  bpf_program *program = nullptr;
  bpf_object__for_each_program(program, object)
      bpf_program__set_autoload(program, bpf_program__name(program) == kDispatcherName);
  return bpf_object__load(object);
}

/// Of the entry, as a program that replaces a function of the dispatcher.
std::string explain_refusal(long error) {
  const std::string refusal = take_refusal();
  std::string text = fmt::format("a program that replaces a function (freplace): {}", error_text(error));
  if (!refusal.empty()) text += fmt::format("; its verifier says of {}", refusal);
  if (refusal.find("changes packet data") != std::string::npos)
    text += "; the dispatcher of libxdp 1.5.5 and later is said to be taken";
  return text;
}

}  // namespace

std::string names_of(const std::vector<DispatchedProgram> &programs) {
  std::vector<std::string> names;
  names.reserve(programs.size());
  for (const DispatchedProgram &program : programs)
    names.push_back(fmt::format("\"{}\" (id {})", program.name, program.id));
  return fmt::format("{}", fmt::join(names, ", "));
}

Result<std::optional<Dispatcher>> dispatcher_on(const std::string &interface, uint32_t ifindex) {
  const Result<InterfaceProgram> there = program_on(interface, ifindex);
  if (!there.ok()) return there.error();
  // libxdp would look at any program, and at what is pinned for it.
  if (there.value().name != kDispatcherName) return std::optional<Dispatcher>();
  const Result<Multiprog> opened = open_programs(ifindex);
  if (!opened.ok())
    return Error{
        fmt::format("interface {}: libxdp cannot tell what its dispatcher (program {}) calls: {}; is the "
                    "bpffs that it pins "
                    "to another one than /sys/fs/bpf of this process (LIBXDP_BPFFS names it)?",
                    interface, there.value().id, opened.error().message)};
  const xdp_multiprog *programs = opened.value().get();
  if (programs == nullptr || xdp_multiprog__is_legacy(programs)) return std::optional<Dispatcher>();
  Dispatcher dispatcher;
  dispatcher.mode =
      xdp_multiprog__attach_mode(programs) == XDP_MODE_SKB ? XdpMode::kGeneric : XdpMode::kNative;
  for (const xdp_program *program = xdp_multiprog__next_prog(nullptr, programs); program != nullptr;
       program = xdp_multiprog__next_prog(program, programs))
    dispatcher.programs.push_back({xdp_program__id(program), xdp_program__name(program)});
  return std::optional<Dispatcher>(std::move(dispatcher));
}

std::string why_no_dispatcher() {
  listen_to_libbpf();
  DECLARE_LIBXDP_OPTS(xdp_program_opts, options, .prog_name = kDispatcherName.data(),
                      .find_filename = "xdp-dispatcher.o");
  const QuietLibxdp quiet;
  xdp_program *found = xdp_program__create(&options);
  long error = libxdp_get_error(found);
  if (error != 0) return fmt::format("libxdp does not find its dispatcher: {}", error_text(error));
  const Program dispatcher(found);
  const EntryObject entry_object = open_entry_object();
  if (!entry_object) return error_text(errno);
  bpf_object *object = xdp_program__bpf_obj(found);
  error = load_dispatcher(object);
  if (error != 0) return fmt::format("libxdp's dispatcher itself: {}", error_text(error));
  const bpf_program *target = bpf_object__find_program_by_name(object, kDispatcherName.data());
  bpf_program *entry = entry_object->progs.sluice_entry;
  bpf_program__set_type(entry, BPF_PROG_TYPE_EXT);
  bpf_program__set_expected_attach_type(entry, static_cast<bpf_attach_type>(0));
  error = bpf_program__set_attach_target(entry, bpf_program__fd(target), "prog0");
  (void)take_refusal();
  if (error == 0) error = shared_entry::load(entry_object.get());
  if (error != 0) return explain_refusal(error);
  bpf_link *link = bpf_program__attach_freplace(entry, 0, nullptr);
  if (link == nullptr) return fmt::format("replacing a function (freplace): {}", error_text(errno));
  bpf_link__destroy(link);
  return "";
}

Result<DispatcherEntry> add_entry(int program_fd, const AttachmentPlace &place) {
  const Result<std::optional<Dispatcher>> there = dispatcher_on(place.interface, place.ifindex);
  if (!there.ok()) return there.error();
  int cannot = 0;
  if (there.value()) {
    const XdpMode mode = there.value()->mode;
    if (place.mode != XdpModeChoice::kAuto &&
        (place.mode == XdpModeChoice::kNative) != (mode == XdpMode::kNative))
      return Error{
          fmt::format("interface {}: --xdp-mode: libxdp's dispatcher is there in the other mode, {}, for {}",
                      place.interface, mode_text(mode), names_of(there.value()->programs))};
    return try_to_add(program_fd, place, mode, &cannot);
  }
  if (place.mode == XdpModeChoice::kGeneric) return try_to_add(program_fd, place, XdpMode::kGeneric, &cannot);
  Result<DispatcherEntry> native = try_to_add(program_fd, place, XdpMode::kNative, &cannot);
  if (place.mode == XdpModeChoice::kNative || cannot != EOPNOTSUPP) return native;
  Result<DispatcherEntry> generic = try_to_add(program_fd, place, XdpMode::kGeneric, &cannot);
  if (!generic.ok()) return Error{native.error().message + "; " + generic.error().message};
  generic.value().why_generic = native.error().message;
  return generic;
}

bool fits_behind(int jump_fd, int program_fd) {
  if (bpf_map_update_elem(jump_fd, &kTrialElement, &program_fd, BPF_ANY) != 0) return false;
  (void)bpf_map_delete_elem(jump_fd, &kTrialElement);
  return true;
}

Status put_behind(int jump_fd, int program_fd) {
  if (bpf_map_update_elem(jump_fd, &kJumpElement, &program_fd, BPF_ANY) == 0) return Done{};
  return Error{fmt::format("the dispatcher's entry cannot jump to the program: {}", error_text(errno))};
}

uint32_t program_behind(int jump_fd) {
  uint32_t id = 0;
  return bpf_map_lookup_elem(jump_fd, &kJumpElement, &id) == 0 ? id : 0;
}

uint32_t interface_of_entry(uint32_t program_id) {
  if (program_id == 0) return 0;
  for (const auto &[ifindex, dispatcher] : dispatchers())
    if (calls(dispatcher, program_id)) return ifindex;
  return 0;
}

bool is_taken_out(uint32_t program_id, const std::string &interface, uint32_t ifindex) {
  const Result<std::optional<Dispatcher>> dispatcher = dispatcher_on(interface, ifindex);
  if (!dispatcher.ok()) return false;
  if (dispatcher.value()) return !calls(*dispatcher.value(), program_id);
  const Result<InterfaceProgram> there = program_on(interface, ifindex);
  return there.ok() && there.value().name != kDispatcherName;
}

Status remove_entry(const DispatcherEntry &entry) {
  const uint32_t id = program_id(entry.program.get());
  const uint32_t ifindex = interface_of_entry(id);
  Status taken_out = ifindex != 0 ? take_out(id, ifindex) : Status(Done{});
  if (!taken_out.ok()) return taken_out;
  // Only now: packets are forwarded until it is out. Where libxdp does not find it, this ends it.
  (void)bpf_map_delete_elem(entry.jump.get(), &kJumpElement);
  wait_for_packets();
  return Done{};
}

Status remove_dead_entries() {
  Status done = Done{};
  for (const auto &[ifindex, dispatcher] : dispatchers()) {
    for (const DispatchedProgram &program : dispatcher.programs) {
      if (!is_dead_entry(program)) continue;
      const Status removed = take_out(program.id, ifindex);
      if (!removed.ok()) done = removed;
    }
  }
  return done;
}

}  // namespace sluice
